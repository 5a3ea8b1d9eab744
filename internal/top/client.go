// Package top shows a runner in a terminal: what its JSON API tells, again and
// again on a terminal, once in a pipe. It keeps no more than the last answer.
package top

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/glassrunner/glassrunner/internal/api"
)

// Source says where the API is and how to get in.
type Source struct {
	URL      string // of the monitoring server, with or without a path
	Username string
	Password string
	CAFile   string // authority of the server's certificate; "": the system's
	CertFile string // certificate of this client, with KeyFile
	KeyFile  string
}

// Client asks one server.
type Client struct {
	base *url.URL
	user *url.Userinfo
	http *http.Client
}

const (
	askTimeout = 10 * time.Second
	maxAnswer  = 64 << 20 // bytes
	recent     = 50       // finished jobs that are asked for
)

// NewClient checks s and reads its files.
func NewClient(s Source) (*Client, error) {
	if !strings.Contains(s.URL, "://") {
		s.URL = "http://" + s.URL
	}
	u, err := url.Parse(s.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("not an address of a monitoring server: want one such as http://localhost:9252")
	}
	c := &Client{base: &url.URL{Scheme: u.Scheme, Host: u.Host}, user: u.User}
	if s.Username != "" {
		c.user = url.UserPassword(s.Username, s.Password)
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if s.CAFile != "" {
		text, err := os.ReadFile(s.CAFile)
		if err != nil {
			return nil, err
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%s has no certificate", s.CAFile)
		}
	}
	if s.CertFile != "" || s.KeyFile != "" {
		pair, err := tls.LoadX509KeyPair(s.CertFile, s.KeyFile)
		if err != nil {
			return nil, err
		}
		t.Certificates = []tls.Certificate{pair}
	}
	c.http = &http.Client{
		Timeout:   askTimeout,
		Transport: &http.Transport{TLSClientConfig: t, Proxy: http.ProxyFromEnvironment, MaxIdleConns: 2, IdleConnTimeout: time.Minute},
		// A password goes to the server that it is for, and to no other.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c, nil
}

// Server is where the client asks, without credentials.
func (c *Client) Server() string { return c.base.String() }

// Fetch asks for everything that is shown.
func (c *Client) Fetch(ctx context.Context) (*api.Snapshot, error) {
	s := new(api.Snapshot)
	for _, q := range []struct {
		path string
		to   any
	}{
		{"/api/v1/status", &s.Status},
		{"/api/v1/runners", &s.Runners},
		{"/api/v1/jobs", &s.Jobs},
		{fmt.Sprintf("/api/v1/finished?limit=%d", recent), &s.Finished},
	} {
		if err := c.get(ctx, q.path, q.to); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (c *Client) get(ctx context.Context, path string, to any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base.String()+path, nil)
	if err != nil {
		return err
	}
	if c.user != nil {
		password, _ := c.user.Password()
		req.SetBasicAuth(c.user.Username(), password)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err
		}
		return fmt.Errorf("%s: %w", c.base, err)
	}
	defer func() { _ = resp.Body.Close() }()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusUnauthorized:
		return fmt.Errorf("%s asks for a user and a password: --username and --password-file", c.base)
	case http.StatusNotFound:
		return fmt.Errorf("%s has no JSON API: it is no glassrunner, or status_page is off in [monitoring]", c.base)
	default:
		return fmt.Errorf("%s answered %s", c.base, resp.Status)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(to); err != nil {
		return fmt.Errorf("%s does not answer as the JSON API does: %w", c.base, err)
	}
	return nil
}
