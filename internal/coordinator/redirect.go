package coordinator

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

const maxRedirects = 10

// redirectError says that a redirect was not followed.
type redirectError struct {
	status int
	text   string
}

// Error returns the whole explanation.
func (e *redirectError) Error() string { return e.text }

// checkRedirect is asked before each redirect. 307 and 308 keep method and
// body and are followed. The others would turn a request that carries data
// into an empty GET, whose answer means nothing: the operator has to know.
// Tokens in headers stay with the host that they are for.
func checkRedirect(next *http.Request, via []*http.Request) error {
	first, last := via[0], via[len(via)-1]
	status := 0
	if next.Response != nil {
		status = next.Response.StatusCode
	}
	if len(via) > maxRedirects {
		return &redirectError{status: status, text: fmt.Sprintf("stopped after %d redirects, the last one to %s", maxRedirects, show(next.URL))}
	}
	if next.Method != last.Method && last.Method != http.MethodHead {
		return &redirectError{status: status, text: fmt.Sprintf(
			"%s redirects %s to %s, which would lose the request's data; use the final URL in config.toml: url = %q",
			statusLine(status), show(last.URL), show(next.URL), baseOf(next.URL))}
	}
	if last.URL.Scheme == "https" && next.URL.Scheme != "https" && next.Body != nil && next.Body != http.NoBody {
		return &redirectError{status: status, text: fmt.Sprintf(
			"%s redirects %s to %s, which would send tokens without encryption; not followed",
			statusLine(status), show(last.URL), show(next.URL))}
	}
	if !sameHost(first.URL, next.URL) && !sameUpload(first, next) {
		for _, h := range []string{headerRunnerToken, headerJobToken, headerPrivateToken} {
			next.Header.Del(h)
		}
	}
	return nil
}

// sameUpload allows a coordinator to have an artifact sent to another address
// of its API, which is the same call there and needs the job's token.
func sameUpload(first, next *http.Request) bool {
	_, from, ok1 := strings.Cut(first.URL.Path, "/api/v4/jobs/")
	_, to, ok2 := strings.Cut(next.URL.Path, "/api/v4/jobs/")
	return ok1 && ok2 && first.Method == http.MethodPost && from == to && strings.HasSuffix(to, "/artifacts")
}

// sameHost allows an upgrade from http to https on the default ports and
// nothing else.
func sameHost(a, b *url.URL) bool {
	if !strings.EqualFold(a.Hostname(), b.Hostname()) {
		return false
	}
	if a.Scheme == b.Scheme {
		return port(a) == port(b)
	}
	return a.Scheme == "http" && port(a) == "80" && port(b) == "443"
}

func port(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	if u.Scheme == "https" {
		return "443"
	}
	return "80"
}

// show returns u without user information, query and fragment.
func show(u *url.URL) string {
	s := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}
	return s.String()
}

// baseOf returns the url setting under which u would have been asked for.
func baseOf(u *url.URL) string {
	base, _, _ := strings.Cut(show(u), "/api/v4/")
	return base
}
