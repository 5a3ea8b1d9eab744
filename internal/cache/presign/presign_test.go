package presign

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/glassrunner/glassrunner/internal/config"
	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/script"
)

func at() time.Time { return time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC) }

func TestNames(t *testing.T) {
	for _, tt := range []struct {
		c    config.Cache
		name string
		want string
	}{
		{config.Cache{}, "k", "runner/abc/project/17/k"},
		{config.Cache{Path: "/pre/fix/", Shared: true}, "a/b", "pre/fix/project/17/a/b"},
		{config.Cache{Path: "p"}, "a b+c%", "p/runner/abc/project/17/a b+c%"},
		{config.Cache{}, "../18/k", ""}, {config.Cache{}, "a/../../x", ""}, {config.Cache{}, "", ""}, {config.Cache{}, "/k", ""}, {config.Cache{}, "a//b", ""},
	} {
		s := &Store{c: &tt.c, short: "abc"}
		got, err := s.name(script.CacheObject{Project: 17, Name: tt.name})
		if got != tt.want || (err != nil) != (tt.want == "") {
			t.Errorf("%q: got %q, %v, want %q", tt.name, got, err, tt.want)
		}
	}
}

func TestS3(t *testing.T) {
	s, err := New(&config.Cache{Type: "s3", Shared: true, S3: &config.CacheS3{
		ServerAddress: "s3.example.test:9000", AccessKey: "AKIA", SecretKey: "the-secret", BucketName: "caches", BucketLocation: "eu-1",
		ServerSideEncryption: "KMS", ServerSideEncryptionKeyID: "key-1",
	}}, "abc", nil)
	if err != nil {
		t.Fatal(err)
	}
	l, err := s.Link(t.Context(), script.CacheObject{Project: 17, Name: "a b", Key: "ä", Upload: true}, 30*24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(l.URL.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	if u.Scheme != "https" || u.Host != "s3.example.test:9000" || u.Path != "/caches/project/17/a b" || q.Get("X-Amz-Expires") != "604800" ||
		!strings.Contains(q.Get("X-Amz-Credential"), "/eu-1/s3/") || strings.Contains(l.URL.Reveal(), "the-secret") {
		t.Errorf("address: %s", l.URL.Reveal())
	}
	for _, h := range []string{"x-amz-meta-cachekey", "x-amz-server-side-encryption", "x-amz-server-side-encryption-aws-kms-key-id"} {
		if !strings.Contains(q.Get("X-Amz-SignedHeaders"), h) {
			t.Errorf("%s is not signed: %s", h, q.Get("X-Amz-SignedHeaders"))
		}
	}
	if l.Header["X-Amz-Server-Side-Encryption"] != "aws:kms" || l.Header["X-Amz-Meta-Cachekey"] != "%C3%A4" || l.HeadURL == "" {
		t.Errorf("link: %v", l.Header)
	}
	if got := fmt.Sprintf("%v %+v", l, l); strings.Contains(got, "Signature") {
		t.Errorf("a link prints its address: %s", got)
	}
}

func gcsKey(t *testing.T) (*rsa.PrivateKey, string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return key, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func TestGCS(t *testing.T) {
	key, text := gcsKey(t)
	file := filepath.Join(t.TempDir(), "sa.json")
	if err := os.WriteFile(file, []byte(fmt.Sprintf(`{"client_email":"sa@p.test","private_key":%q}`, text)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []config.CacheGCS{
		{AccessID: "sa@p.test", PrivateKey: job.Secret(strings.ReplaceAll(text, "\n", `\n`)), BucketName: "b"},
		{AccessID: "other", CredentialsFile: file, BucketName: "b"},
	} {
		g, err := newGCS(&c, 99)
		if err != nil {
			t.Fatal(err)
		}
		g.now = at
		l, err := g.link(t.Context(), object{name: "project/17/a b", key: "k", upload: true, life: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		raw, signature, _ := strings.Cut(l.URL.Reveal(), "&X-Goog-Signature=")
		const query = "X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Credential=sa%40p.test%2F20260506%2Fauto%2Fstorage%2Fgoog4_request&X-Goog-Date=20260506T070809Z" +
			"&X-Goog-Expires=3600&X-Goog-SignedHeaders=content-type%3Bhost%3Bx-goog-content-length-range%3Bx-goog-meta-cachekey"
		if want := "https://storage.googleapis.com/b/project/17/a%20b?" + query; raw != want {
			t.Errorf("got  %s\nwant %s", raw, want)
		}
		request := "PUT\n/b/project/17/a%20b\n" + query + "\ncontent-type:application/octet-stream\nhost:storage.googleapis.com\nx-goog-content-length-range:0,99\nx-goog-meta-cachekey:k\n" +
			"\ncontent-type;host;x-goog-content-length-range;x-goog-meta-cachekey\nUNSIGNED-PAYLOAD"
		sum := sha256.Sum256([]byte(request))
		digest := sha256.Sum256([]byte("GOOG4-RSA-SHA256\n20260506T070809Z\n20260506/auto/storage/goog4_request\n" + hex.EncodeToString(sum[:])))
		sig, err := hex.DecodeString(signature)
		if err != nil {
			t.Fatal(err)
		}
		if err := rsa.VerifyPKCS1v15(&key.PublicKey, crypto.SHA256, digest[:], sig); err != nil {
			t.Errorf("signature: %v", err)
		}
	}
}

func TestAzure(t *testing.T) {
	a, err := newAzure(&config.CacheAzure{AccountName: "acc", AccountKey: "a2V5", ContainerName: "con"})
	if err != nil {
		t.Fatal(err)
	}
	a.now = at
	l, err := a.link(t.Context(), object{name: "project/17/a b", key: "k", upload: true, life: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(l.URL.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	if u.Host != "acc.blob.core.windows.net" || u.Path != "/con/project/17/a b" || q.Get("st") != "2026-05-06T06:08:09Z" || q.Get("se") != "2026-05-06T08:08:09Z" ||
		q.Get("sp") != "cw" || q.Get("spr") != "https" || q.Get("sr") != "b" || q.Get("sig") == "" {
		t.Errorf("address: %s", l.URL.Reveal())
	}
	if l.Header["X-Ms-Blob-Type"] != "BlockBlob" {
		t.Errorf("header: %v", l.Header)
	}
}

func TestRefused(t *testing.T) {
	for _, c := range []config.Cache{
		{Type: "ftp"}, {Type: "s3"}, {Type: "s3", S3: &config.CacheS3{}}, {Type: "gcs", GCS: &config.CacheGCS{BucketName: "b"}},
		{Type: "gcs", GCS: &config.CacheGCS{BucketName: "b", AccessID: "x", PrivateKey: "secret-key"}},
		{Type: "azure", Azure: &config.CacheAzure{AccountName: "a", ContainerName: "c"}},
		{Type: "azure", Azure: &config.CacheAzure{AccountName: "a", ContainerName: "c", AccountKey: "secret-key!"}},
		{Type: "s3", S3: &config.CacheS3{BucketName: "b", ServerSideEncryption: "rot13"}},
	} {
		if _, err := New(&c, "abc", nil); err == nil || strings.Contains(err.Error(), "secret-key") {
			t.Errorf("%+v: got %v", c, err)
		}
	}
	for _, c := range []*config.Cache{nil, {}} {
		if s, err := New(c, "abc", nil); s != nil || err != nil {
			t.Errorf("no storage: got %v, %v", s, err)
		}
	}
}
