package presign

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/glassrunner/glassrunner/internal/config"
	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/script"
)

const amazon = "s3.amazonaws.com"

// s3 signs for S3. Roles are assumed here, so that a job gets addresses and
// no credentials with a role as well.
type s3 struct {
	bucket           string
	download, upload *minio.Client
	encryption       map[string]string // headers of uploads
}

func newS3(c *config.CacheS3) (*s3, error) {
	if c == nil || c.BucketName == "" {
		return nil, errors.New("s3: BucketName is not set")
	}
	s := &s3{bucket: c.BucketName, encryption: map[string]string{}}
	base := credentials.NewStaticV4(c.AccessKey.Reveal(), c.SecretKey.Reveal(), c.SessionToken.Reveal())
	iam := c.AuthenticationType == "iam" || c.AuthenticationType == "" && (c.ServerAddress == "" || c.AccessKey == "" || c.SecretKey == "")
	if iam {
		base = credentials.NewChainCredentials([]credentials.Provider{
			&credentials.EnvAWS{}, &credentials.FileAWSCredentials{}, &credentials.IAM{},
		})
	}
	var err error
	if s.download, err = s3Client(c, role(c, base, c.RoleARN)); err != nil {
		return nil, err
	}
	s.upload = s.download
	if arn := c.UploadRoleARN; arn != "" {
		if s.upload, err = s3Client(c, role(c, base, arn)); err != nil {
			return nil, err
		}
	}
	switch strings.ToUpper(c.ServerSideEncryption) {
	case "":
	case "S3", "AES256":
		s.encryption["X-Amz-Server-Side-Encryption"] = "AES256"
	case "KMS", "AWS:KMS":
		s.encryption["X-Amz-Server-Side-Encryption"] = "aws:kms"
	case "DSSE-KMS", "AWS:KMS:DSSE":
		s.encryption["X-Amz-Server-Side-Encryption"] = "aws:kms:dsse"
	default:
		return nil, fmt.Errorf("s3: unknown ServerSideEncryption %q", c.ServerSideEncryption)
	}
	if id := c.ServerSideEncryptionKeyID; id != "" && strings.HasPrefix(s.encryption["X-Amz-Server-Side-Encryption"], "aws:") {
		s.encryption["X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id"] = id
	}
	return s, nil
}

func s3Client(c *config.CacheS3, creds *credentials.Credentials) (*minio.Client, error) {
	o := &minio.Options{Creds: creds, Secure: !c.Insecure, Region: c.BucketLocation}
	if c.PathStyle != nil {
		o.BucketLookup = minio.BucketLookupDNS
		if *c.PathStyle {
			o.BucketLookup = minio.BucketLookupPath
		}
	}
	host := c.ServerAddress
	if host == "" {
		host = amazon
	}
	client, err := minio.New(host, o)
	if err != nil {
		return nil, fmt.Errorf("s3: ServerAddress %q: %w", host, err)
	}
	client.SetS3EnableDualstack(c.DualStack == nil || *c.DualStack)
	if c.Accelerate {
		client.SetS3TransferAccelerate("s3-accelerate.amazonaws.com")
	}
	return client, nil
}

// assumed are the credentials of a role, got with others.
type assumed struct {
	credentials.STSAssumeRole
	base *credentials.Credentials
}

// role assumes arn, if there is one.
func role(c *config.CacheS3, base *credentials.Credentials, arn string) *credentials.Credentials {
	if arn == "" {
		return base
	}
	endpoint, region := "https://sts.amazonaws.com", c.BucketLocation
	if region == "" {
		region = "us-east-1"
	} else {
		endpoint = "https://sts." + region + ".amazonaws.com"
	}
	if host := c.ServerAddress; host != "" && !strings.HasSuffix(host, "amazonaws.com") {
		endpoint = "https://" + host
		if c.Insecure {
			endpoint = "http://" + host
		}
	}
	a := &assumed{base: base}
	a.STSEndpoint = endpoint
	a.Options = credentials.STSAssumeRoleOptions{RoleARN: arn, RoleSessionName: "glassrunner-cache", Location: region, DurationSeconds: 3600}
	return credentials.New(a)
}

// RetrieveWithCredContext assumes the role.
func (a *assumed) RetrieveWithCredContext(cc *credentials.CredContext) (credentials.Value, error) {
	v, err := a.base.GetWithContext(cc)
	if err != nil {
		return credentials.Value{}, err
	}
	a.Options.AccessKey, a.Options.SecretKey, a.Options.SessionToken = v.AccessKeyID, v.SecretAccessKey, v.SessionToken
	return a.STSAssumeRole.RetrieveWithCredContext(cc)
}

// Retrieve assumes the role.
func (a *assumed) Retrieve() (credentials.Value, error) { return a.RetrieveWithCredContext(nil) }

func (s *s3) link(ctx context.Context, o object) (script.Link, error) {
	client, method, header := s.download, http.MethodGet, http.Header{}
	l := script.Link{}
	if o.upload {
		client, method = s.upload, http.MethodPut
		l.Header = map[string]string{"X-Amz-Meta-Cachekey": metadata(o.key)}
		maps.Copy(l.Header, s.encryption)
		for k, v := range l.Header {
			header.Set(k, v)
		}
	}
	u, err := client.PresignHeader(ctx, method, s.bucket, o.name, o.life, nil, header)
	if err != nil {
		return script.Link{}, fmt.Errorf("s3: signing an address: %w", err)
	}
	l.URL = secret(u)
	if u, err = s.download.PresignHeader(ctx, http.MethodHead, s.bucket, o.name, o.life, nil, nil); err != nil {
		return script.Link{}, fmt.Errorf("s3: signing an address: %w", err)
	}
	l.HeadURL = secret(u)
	return l, nil
}

func secret(u *url.URL) job.Secret { return job.Secret(u.String()) }
