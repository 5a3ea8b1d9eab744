package presign

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/glassrunner/glassrunner/internal/config"
	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/script"
)

// gcs signs for Google Cloud Storage, with the key of a service account
// (signatures of version 4).
type gcs struct {
	host, bucket, account string
	key                   *rsa.PrivateKey
	limit                 int64
	now                   func() time.Time
}

func newGCS(c *config.CacheGCS, limit int64) (*gcs, error) {
	if c == nil || c.BucketName == "" {
		return nil, errors.New("gcs: BucketName is not set")
	}
	domain := c.UniverseDomain
	account, text := c.AccessID, c.PrivateKey.Reveal()
	if c.CredentialsFile != "" {
		data, err := os.ReadFile(c.CredentialsFile)
		if err != nil {
			return nil, fmt.Errorf("gcs: CredentialsFile: %w", err)
		}
		var file struct {
			Email    string `json:"client_email"`
			Key      string `json:"private_key"`
			Universe string `json:"universe_domain"`
		}
		if json.Unmarshal(data, &file) != nil || file.Email == "" || file.Key == "" {
			return nil, fmt.Errorf("gcs: CredentialsFile %s is not the key of a service account", c.CredentialsFile)
		}
		account, text = file.Email, file.Key
		if domain == "" {
			domain = file.Universe
		}
	}
	if account == "" || text == "" {
		return nil, errors.New("gcs: neither CredentialsFile nor AccessID and PrivateKey are set; the credentials of the machine cannot sign here")
	}
	key, err := privateKey(text)
	if err != nil {
		return nil, fmt.Errorf("gcs: %w", err)
	}
	if domain == "" {
		domain = "googleapis.com"
	}
	return &gcs{"storage." + domain, c.BucketName, account, key, limit, time.Now}, nil
}

// privateKey reads PEM whose line ends may be written as \n.
func privateKey(text string) (*rsa.PrivateKey, error) {
	block, _ := pem.Decode([]byte(strings.ReplaceAll(text, `\n`, "\n")))
	if block == nil {
		return nil, errors.New("the private key is not in PEM form")
	}
	if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("the private key cannot be read")
	}
	if k, ok := key.(*rsa.PrivateKey); ok {
		return k, nil
	}
	return nil, errors.New("the private key is not an RSA key")
}

func (g *gcs) link(_ context.Context, o object) (script.Link, error) {
	method := http.MethodGet
	l := script.Link{}
	if o.upload {
		method = http.MethodPut
		l.Header = map[string]string{"Content-Type": "application/octet-stream", "X-Goog-Meta-Cachekey": metadata(o.key)}
		if g.limit > 0 {
			l.Header["X-Goog-Content-Length-Range"] = "0," + strconv.FormatInt(g.limit, 10)
		}
	}
	var err error
	if l.URL, err = g.signed(method, o, l.Header); err != nil {
		return script.Link{}, err
	}
	l.HeadURL, err = g.signed(http.MethodHead, o, nil)
	return l, err
}

func (g *gcs) signed(method string, o object, header map[string]string) (job.Secret, error) {
	now := g.now().UTC()
	stamp, scope := now.Format("20060102T150405Z"), now.Format("20060102")+"/auto/storage/goog4_request"
	headers := map[string]string{"host": g.host}
	for k, v := range header {
		headers[strings.ToLower(k)] = strings.Join(strings.Fields(v), " ")
	}
	names := slices.Sorted(maps.Keys(headers))
	query := url.Values{
		"X-Goog-Algorithm": {"GOOG4-RSA-SHA256"}, "X-Goog-Credential": {g.account + "/" + scope}, "X-Goog-Date": {stamp},
		"X-Goog-Expires": {strconv.Itoa(int(o.life.Seconds()))}, "X-Goog-SignedHeaders": {strings.Join(names, ";")},
	}
	resource := "/" + g.bucket + "/" + escaped(o.name)
	encoded := strings.ReplaceAll(query.Encode(), "+", "%20")
	var lines strings.Builder
	for _, n := range names {
		lines.WriteString(n + ":" + headers[n] + "\n")
	}
	request := strings.Join([]string{method, resource, encoded, lines.String(), strings.Join(names, ";"), "UNSIGNED-PAYLOAD"}, "\n")
	sum := sha256.Sum256([]byte(request))
	digest := sha256.Sum256([]byte("GOOG4-RSA-SHA256\n" + stamp + "\n" + scope + "\n" + hex.EncodeToString(sum[:])))
	signature, err := rsa.SignPKCS1v15(nil, g.key, crypto.SHA256, digest[:])
	if err != nil {
		return "", fmt.Errorf("gcs: signing an address: %w", err)
	}
	return job.Secret("https://" + g.host + resource + "?" + encoded + "&X-Goog-Signature=" + hex.EncodeToString(signature)), nil
}
