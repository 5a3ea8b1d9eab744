package coordinator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/job"
)

// Options say whom a Client talks to and as whom.
type Options struct {
	URL      string     // of the coordinator, as in config.toml
	Token    job.Secret // runner token; for Register the registration token
	SystemID string     // of this machine
	Runner   job.Runner // scope of events whose context has none

	// TLS files as configured. An empty one is looked for in CertDir:
	// HOST.crt, HOST.auth.crt and HOST.auth.key.
	TLSCAFile, TLSCertFile, TLSKeyFile string
	CertDir                            string
	// ResolveFullTLSChain completes the chain that jobs get up to its root
	// (FF_RESOLVE_FULL_TLS_CHAIN).
	ResolveFullTLSChain bool
	// KeepPayload keeps the text of a job in job.Spec.Payload.
	KeepPayload bool
	// ConnectionMaxAge is the time after which idle connections are closed
	// before the next request; 0: never.
	ConnectionMaxAge time.Duration

	Info Info
	Bus  *event.Bus   // nil: nothing is told
	Log  *slog.Logger // debug only; nil: nothing is logged
	// Transports is shared by clients so that those with equal TLS files use
	// the same connections. Nil: the client has its own.
	Transports *Transports
}

// Client is one runner's connection to its coordinator. Its methods may be
// called at the same time.
type Client struct {
	opts      Options
	token     job.Secret
	base      string // with user information, without the trailing slash
	shown     string // base without user information
	path      string // of base
	userAgent string
	info      []byte // JSON of the common object "info"
	bare      []byte // the same for the legacy registration
	prefix    []byte // of the body of jobs/request, up to last_update
	link      *link
	http      *http.Client
	log       *slog.Logger

	requestJob target
	poll       atomic.Pointer[pollBody]
	brief      []byte // body without last_update

	buffers sync.Pool // *bytes.Buffer, of answers
	updates sync.Pool // *[]byte, of bodies
}

// target is one address, in the forms that a call needs.
type target struct {
	url      string // to send to
	shown    string // for people: no user information, no query
	template string // path with numbers replaced by {id}
}

// New returns a client. It fails, with an *Error of class client, when URL is
// none that a coordinator can have or when what the client tells of itself is
// too much for a request; it does not touch the network.
func New(o Options) (*Client, error) {
	base, shown, err := parseBase(o.URL)
	if err != nil {
		return nil, &Error{URL: shown, Status: StatusNoClient, Class: event.ErrClient, Text: "coordinator URL: " + err.Error()}
	}
	c := &Client{
		opts: o, token: o.Token, base: base.String(), shown: shown, path: base.EscapedPath(),
		userAgent: o.Info.Version.UserAgent(), log: o.Log,
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	c.requestJob = c.target("jobs/request")
	if err := c.encodeStatic(); err != nil {
		return nil, &Error{URL: shown, Status: StatusNoClient, Class: event.ErrClient, Text: err.Error()}
	}
	pool := o.Transports
	if pool == nil {
		pool = NewTransports()
	}
	c.link = pool.link(linkKey{
		files:  resolveFiles(o, base.Hostname()),
		maxAge: o.ConnectionMaxAge,
	})
	c.http = &http.Client{Transport: c.link, CheckRedirect: checkRedirect}
	return c, nil
}

// URL returns the coordinator's address without user information.
func (c *Client) URL() string { return c.shown }

// Expiry says until when the client's TLS material holds, as far as it was
// used. It waits for nothing.
func (c *Client) Expiry() Expiry { return c.link.expiry() }

// CloseIdle closes the connections that nothing uses at the moment, also
// those of clients that share them.
func (c *Client) CloseIdle() { c.link.closeIdle() }

// parseBase applies the rules for the url setting: trailing slashes, then a
// legacy /ci are cut off; only http and https are spoken.
func parseBase(raw string) (base *url.URL, shown string, err error) {
	raw = strings.TrimSpace(raw)
	if raw == "" {
		return nil, "", errors.New("is empty")
	}
	u, err := url.Parse(raw)
	if err != nil {
		// The parser's text quotes what it was given, which may be a password.
		if strings.Contains(raw, "@") {
			return nil, "", errors.New("is not a valid URL")
		}
		if ue, ok := errors.AsType[*url.Error](err); ok {
			err = ue.Err
		}
		return nil, "", fmt.Errorf("is not a valid URL: %w", err)
	}
	switch u.Scheme {
	case "http", "https":
	case "":
		return nil, "", errors.New("has no scheme; it must start with http:// or https://")
	default:
		return nil, "", fmt.Errorf("has the scheme %q; only http and https are supported", u.Scheme)
	}
	if u.Hostname() == "" {
		return nil, "", errors.New("names no host")
	}
	if u.RawQuery != "" || u.Fragment != "" {
		return nil, "", errors.New("has a query or a fragment")
	}
	p := strings.TrimRight(u.EscapedPath(), "/")
	if cut, ok := strings.CutSuffix(p, "/ci"); ok {
		p = strings.TrimRight(cut, "/")
	}
	u.RawPath = p
	if u.Path, err = url.PathUnescape(p); err != nil {
		return nil, "", errors.New("is not a valid URL")
	}
	s := *u
	s.User = nil
	return u, s.String(), nil
}

// target returns the address of an API path.
func (c *Client) target(path string) target {
	return target{
		url:      c.base + "/api/v4/" + path,
		shown:    c.shown + "/api/v4/" + path,
		template: template(c.path + "/api/v4/" + path),
	}
}

// template replaces every all-numeric segment of a path by {id}.
func template(path string) string {
	segments := strings.Split(path, "/")
	for i, s := range segments {
		if s != "" && strings.Trim(s, "0123456789") == "" {
			segments[i] = "{id}"
		}
	}
	return strings.Join(segments, "/")
}

// scoped returns ctx with a scope: its own, or the client's runner and id.
func (c *Client) scoped(ctx context.Context, id job.ID) context.Context {
	s := event.ScopeOf(ctx)
	if s.Runner != (job.Runner{}) {
		return ctx
	}
	s.Runner = c.opts.Runner
	if s.Job == 0 {
		s.Job = id
	}
	return event.WithScope(ctx, s)
}
