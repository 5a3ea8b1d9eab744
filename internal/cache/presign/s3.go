package presign

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/glassrunner/glassrunner/internal/config"
	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/script"
)

const amazon = "s3.amazonaws.com"

// s3 signs for S3. Roles are assumed here, so that a job gets addresses and
// no credentials with a role as well.
type s3 struct {
	bucket           string
	download, upload way
	encryption       map[string]string // headers of uploads
}

// way is how objects are reached in one direction.
type way struct {
	client *minio.Client
	role   *role // nil: the client has its credentials
}

func newS3(c *config.CacheS3, bus *event.Bus) (*s3, error) {
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
	places := rolePlaces(c)
	to := func(arn string) (way, error) {
		r := newRole(c, base, arn, places, bus)
		creds := base
		if r != nil {
			creds = credentials.New(fromContext{})
		}
		client, err := s3Client(c, creds)
		return way{client, r}, err
	}
	var err error
	if s.download, err = to(c.RoleARN); err != nil {
		return nil, err
	}
	s.upload = s.download
	if arn := c.UploadRoleARN; arn != "" && arn != c.RoleARN {
		if s.upload, err = to(arn); err != nil {
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

func (s *s3) link(ctx context.Context, o object) (script.Link, error) {
	if !o.upload {
		get, err := s.download.sign(ctx, http.MethodGet, s.bucket, o, nil)
		if err != nil {
			return script.Link{}, err
		}
		head, err := s.download.sign(ctx, http.MethodHead, s.bucket, o, nil)
		return script.Link{URL: get, HeadURL: head}, err
	}
	l := script.Link{Header: map[string]string{"X-Amz-Meta-Cachekey": metadata(o.key)}}
	maps.Copy(l.Header, s.encryption)
	header := http.Header{}
	for k, v := range l.Header {
		header.Set(k, v)
	}
	var err error
	if l.URL, err = s.upload.sign(ctx, http.MethodPut, s.bucket, o, header); err != nil {
		return script.Link{}, err
	}
	// A role for uploads may read nothing.
	l.HeadURL, err = s.download.sign(ctx, http.MethodHead, s.bucket, o, nil)
	return l, err
}

// sign signs one request.
func (w way) sign(ctx context.Context, method, bucket string, o object, header http.Header) (job.Secret, error) {
	if w.role != nil {
		v, err := w.role.credentials(ctx)
		if err != nil {
			return "", fmt.Errorf("s3: %w", err)
		}
		ctx = withCredentials(ctx, v)
	}
	u, err := w.client.PresignHeader(ctx, method, bucket, o.name, o.life, nil, header)
	if err != nil {
		return "", fmt.Errorf("s3: signing an address: %w", err)
	}
	return job.Secret(u.String()), nil
}
