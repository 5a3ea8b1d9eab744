package presign

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/glassrunner/glassrunner/internal/config"
	"github.com/glassrunner/glassrunner/internal/job"
)

// The account that Azurite has from the start; its documentation names the key.
const (
	azuriteAccount = "devstoreaccount1"
	azuriteKey     = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)

// azurite is Microsoft's emulator of Azure Storage, over TLS.
type azurite struct {
	addr   string
	client *http.Client
}

func newAzurite(t *testing.T) *azurite {
	t.Helper()
	path := os.Getenv("GLASSRUNNER_AZURITE")
	if path == "" {
		t.Skip("GLASSRUNNER_AZURITE is not set: scripts/azurite.sh installs Azurite and prints its path")
	}
	dir := t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{azuriteAccount + ".blob.localhost"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, der []byte) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := &azurite{addr: l.Addr().String()}
	_, port, _ := net.SplitHostPort(a.addr)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	a.client = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: azuriteAccount + ".blob.localhost", MinVersion: tls.VersionTLS12},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, a.addr)
		},
	}}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, path, "--blobHost", "127.0.0.1", "--blobPort", port, "--location", dir, "--silent", "--disableTelemetry",
		"--cert", write("cert.pem", "CERTIFICATE", der), "--key", write("key.pem", "PRIVATE KEY", private))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); _ = cmd.Wait(); a.client.CloseIdleConnections() })
	a.container(t, "caches", &out)
	return a
}

// container makes one, with a request that the account's key signs, and waits
// until Azurite answers.
func (a *azurite) container(t *testing.T, name string, out *bytes.Buffer) {
	t.Helper()
	secret, err := base64.StdEncoding.DecodeString(azuriteKey)
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(60 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "https://"+a.host()+"/"+name+"?restype=container", nil)
		if err != nil {
			t.Fatal(err)
		}
		date := time.Now().UTC().Format(http.TimeFormat)
		r.Header.Set("X-Ms-Date", date)
		r.Header.Set("X-Ms-Version", azureVersion)
		text := "PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:" + date + "\nx-ms-version:" + azureVersion + "\n/" + azuriteAccount + "/" + name + "\nrestype:container"
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(text))
		r.Header.Set("Authorization", "SharedKey "+azuriteAccount+":"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
		resp, err := a.client.Do(r)
		if err == nil {
			body, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusCreated {
				return
			}
			t.Fatalf("making a container: %s: %s", resp.Status, body)
		}
		if time.Now().After(end) {
			t.Fatalf("Azurite does not answer: %v\n%s", err, out)
		}
	}
}

func (a *azurite) host() string {
	_, port, _ := net.SplitHostPort(a.addr)
	return azuriteAccount + ".blob.localhost:" + port
}

func (a *azurite) do(t *testing.T, method string, to job.Secret, header map[string]string, body string) (int, string, http.Header) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, to.Reveal(), strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range header {
		r.Header.Set(k, v)
	}
	resp, err := a.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text), resp.Header
}

// TestAzurite uses addresses against Microsoft's own implementation.
func TestAzurite(t *testing.T) {
	a := newAzurite(t)
	s, err := newAzure(&config.CacheAzure{
		AccountName: azuriteAccount, AccountKey: azuriteKey, ContainerName: "caches", StorageDomain: strings.TrimPrefix(a.host(), azuriteAccount+"."),
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"project/17/k", "pre/fix/project/17/a b", "project/17/ä+%&=#"} {
		up, err := s.link(t.Context(), object{name: name, key: "the key", upload: true, life: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		down, err := s.link(t.Context(), object{name: name, life: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		if code, body, _ := a.do(t, http.MethodGet, down.URL, nil, ""); code != http.StatusNotFound {
			t.Errorf("%s: GET before: %d, %s, want 404", name, code, body)
		}
		if code, body, _ := a.do(t, http.MethodPut, up.URL, up.Header, "content of "+name); code != http.StatusCreated {
			t.Errorf("%s: PUT: %d, %s, want 201", name, code, body)
		}
		if code, body, h := a.do(t, http.MethodGet, down.URL, nil, ""); code != http.StatusOK || body != "content of "+name || h.Get("X-Ms-Meta-Cachekey") != "the key" || h.Get("Last-Modified") == "" {
			t.Errorf("%s: GET: %d, %q, %v", name, code, body, h)
		}
		if code, _, _ := a.do(t, http.MethodHead, up.HeadURL, nil, ""); code != http.StatusOK {
			t.Errorf("%s: HEAD: %d", name, code)
		}
		// Each address is good for what it is for, and for no other object.
		if code, _, _ := a.do(t, http.MethodPut, down.URL, up.Header, "x"); code != http.StatusForbidden {
			t.Errorf("%s: PUT by the address to read: %d, want 403", name, code)
		}
		if code, _, _ := a.do(t, http.MethodGet, up.URL, nil, ""); code != http.StatusForbidden {
			t.Errorf("%s: GET by the address to write: %d, want 403", name, code)
		}
		other := job.Secret(strings.Replace(down.URL.Reveal(), "project/17", "project/18", 1))
		if code, _, _ := a.do(t, http.MethodGet, other, nil, ""); code != http.StatusForbidden {
			t.Errorf("%s: GET of another object: %d, want 403", name, code)
		}
	}
	s.now = func() time.Time { return time.Now().Add(-3 * time.Hour) }
	late, err := s.link(t.Context(), object{name: "project/17/k", life: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if code, _, _ := a.do(t, http.MethodGet, late.URL, nil, ""); code != http.StatusForbidden {
		t.Errorf("GET by an address that is over: %d, want 403", code)
	}
}
