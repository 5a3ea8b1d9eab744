package docker

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/moby/moby/client"

	"github.com/glassrunner/glassrunner/internal/config"
	"github.com/glassrunner/glassrunner/internal/executor"
)

// connection says how to reach an engine. It is stored in claims.
type connection struct {
	host     string
	certPath string
	verify   bool
	api      string // "": negotiated
}

// connectionFrom reads the configuration, and what it leaves open from the
// environment that Docker's own command reads.
func connectionFrom(c config.Docker) connection {
	n := connection{
		host:     cmp.Or(c.Host, os.Getenv(client.EnvOverrideHost), client.DefaultDockerHost),
		certPath: c.TLSCertPath, verify: c.TLSVerify,
		api: os.Getenv(client.EnvOverrideAPIVersion),
	}
	if c.Host == "" && c.TLSCertPath == "" {
		n.certPath = os.Getenv(client.EnvOverrideCertPath)
		n.verify = n.verify || os.Getenv(client.EnvTLSVerify) != ""
	}
	return n
}

// claim says how a later process finds what a run made.
func (n connection) claim(run string) executor.Claim {
	return executor.Claim{Kind: claimKind, ID: run, Data: map[string]string{
		"host": n.host, "cert_path": n.certPath, "verify": strconv.FormatBool(n.verify), "api": n.api,
	}}
}

func connectionOf(c executor.Claim) connection {
	return connection{
		host: cmp.Or(c.Data["host"], client.DefaultDockerHost), certPath: c.Data["cert_path"],
		verify: c.Data["verify"] == "true", api: c.Data["api"],
	}
}

// engine is a connection to a Docker engine whose API version is agreed upon.
type engine struct {
	*client.Client
	connection
}

// engineError says that the engine could not be reached.
type engineError struct {
	host string
	err  error
}

func (e *engineError) Error() string {
	return fmt.Sprintf("the Docker engine at %s does not answer: %v", e.host, e.err)
}

func (e *engineError) Unwrap() error { return e.err }

// remedy tells an operator what to look at.
func (e *engineError) remedy() string {
	if strings.HasPrefix(e.host, "unix://") || strings.HasPrefix(e.host, "npipe://") {
		return "Is the engine running on the runner's machine (systemctl status docker), and may the runner's user open " +
			e.host + "? Another address goes to `host` in [runners.docker]."
	}
	return "Is the engine running there, and is its port open for the runner's machine? The address is `host` in [runners.docker], certificates are in `tls_cert_path`."
}

// connect reaches an engine and agrees on the version of its API.
func connect(ctx context.Context, n connection) (*engine, error) {
	opts, err := n.options()
	if err != nil {
		return nil, executor.Misconfigured("connecting to the Docker engine: %w", err)
	}
	c, err := client.New(opts...)
	if err != nil {
		return nil, executor.Misconfigured("connecting to the Docker engine: %w", err)
	}
	e := &engine{Client: c, connection: n}
	ping, err := c.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true})
	if err != nil {
		e.close()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, &engineError{n.host, err}
	}
	switch ping.OSType {
	case "linux", "freebsd", "":
		return e, nil
	}
	e.close()
	return nil, executor.Misconfigured("the Docker engine runs containers of %s; this executor runs those of linux", ping.OSType)
}

func (n connection) options() ([]client.Opt, error) {
	// Without HTTP/2, which no engine speaks: a transport that may use it gets a
	// TLS configuration with its first request, from which the client concludes
	// that it has to attach to containers by TLS.
	transport, scheme := &http.Transport{TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{}}, "http"
	if n.certPath != "" || n.verify {
		c, err := n.tls()
		if err != nil {
			return nil, err
		}
		transport.TLSClientConfig, scheme = c, "https"
	}
	opts := []client.Opt{
		client.WithHTTPClient(&http.Client{Transport: transport, CheckRedirect: client.CheckRedirect}),
		client.WithHost(n.host),
		client.WithScheme(scheme),
		client.WithUserAgent("glassrunner"),
	}
	if n.api != "" {
		opts = append(opts, client.WithAPIVersion(n.api))
	}
	return opts, nil
}

// tls reads the certificates as Docker's own command does. Without verify the
// connection is encrypted and the engine's certificate is not looked at.
func (n connection) tls() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: !n.verify} //nolint:gosec // tls_verify = false is the operator's word
	if n.certPath == "" {
		return c, nil
	}
	file := func(name string) string { return filepath.Join(n.certPath, name) }
	ca, err := os.ReadFile(file("ca.pem"))
	switch {
	case err == nil:
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(ca) {
			return nil, fmt.Errorf("%s holds no certificate", file("ca.pem"))
		}
	case n.verify || !errors.Is(err, os.ErrNotExist):
		return nil, err
	}
	pair, err := tls.LoadX509KeyPair(file("cert.pem"), file("key.pem"))
	switch {
	case err == nil:
		c.Certificates = []tls.Certificate{pair}
	case !errors.Is(err, os.ErrNotExist):
		return nil, err
	}
	return c, nil
}

// close gives the connections back.
func (e *engine) close() { _ = e.Client.Close() } // idle connections only

// gone turns the error of a call into an *engineError when it was the engine
// that did not answer.
func (e *engine) gone(err error) error {
	if err == nil || !client.IsErrConnectionFailed(err) && !cut(err) {
		return err
	}
	if _, ok := errors.AsType[*engineError](err); ok {
		return err
	}
	return &engineError{e.host, err}
}
