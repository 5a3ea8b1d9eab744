package coordinator

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/job"
)

// Statuses of calls that have no HTTP status.
const (
	StatusNoAnswer = -1   // there was no answer, or none that can be used
	StatusNoClient = -100 // no request could be built
)

// Error says that a call did not bring what it was made for.
type Error struct {
	Method string // upper case; "" when no request was made
	URL    string // without user information and query
	// Status is the HTTP status, StatusNoAnswer or StatusNoClient.
	Status int
	Class  event.ErrorClass // "" when the HTTP status says it all; event.Called has a class then too
	Text   string           // safe to print
	Err    error            // cause below HTTP, may be nil
}

// Error returns "METHOD URL: text".
func (e *Error) Error() string {
	switch {
	case e.Method == "" && e.URL == "":
		return e.Text
	case e.Method == "":
		return e.URL + ": " + e.Text
	}
	return e.Method + " " + e.URL + ": " + e.Text
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// BadJobError says that a job was handed out whose description cannot be
// used. The coordinator believes that it runs: fail it.
type BadJobError struct {
	ID    job.ID
	Token job.Secret
	Err   error
}

// Error names the job.
func (e *BadJobError) Error() string {
	return fmt.Sprintf("job %d was received but cannot be understood: %v", e.ID, e.Err)
}

// Unwrap returns what was wrong.
func (e *BadJobError) Unwrap() error { return e.Err }

// Causes with which this package ends its own requests.
var (
	errSlow     = errors.New("the answer took too long")
	errReleased = errors.New("request body was given back")
)

// classOf sorts an error of the HTTP client. The stage that failed comes
// first: a dial that timed out is a connect error.
func classOf(err error) event.ErrorClass {
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return event.ErrDNS
	}
	if isTLS(err) {
		return event.ErrTLS
	}
	var op *net.OpError
	if errors.As(err, &op) && (op.Op == "dial" || op.Op == "proxyconnect" || op.Op == "socks connect") {
		return event.ErrConnect
	}
	var ne net.Error
	if errors.Is(err, errSlow) || errors.Is(err, context.DeadlineExceeded) || errors.As(err, &ne) && ne.Timeout() {
		return event.ErrTimeout
	}
	text := err.Error()
	if errors.Is(err, context.Canceled) {
		return event.ErrCanceled
	}
	if has(text, "malformed", "response headers exceeded", "bad Content-Length", "unexpected 1xx", "gzip:", "flate:",
		"invalid header field", "transfer encoding", "chunk", "parse Location") {
		return event.ErrDecode
	}
	if errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, io.EOF) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		has(text, "server closed idle connection", "transport connection broken", "connection lost", "GOAWAY",
			"stream error", "forcibly closed", "connection was aborted", "client connection force closed") {
		return event.ErrReset
	}
	return event.ErrOther
}

// classOfStatus sorts a failure that its HTTP status tells.
func classOfStatus(status int) event.ErrorClass {
	switch status / 100 {
	case 1, 2, 3:
		return event.ErrDecode
	case 4:
		return event.ErrHTTP4xx
	case 5:
		return event.ErrHTTP5xx
	}
	return event.ErrOther
}

// skewOf says how far now is ahead of the clock of who has just answered. The
// Date of RFC 9110 is cut to whole seconds, so half of one is added. What a
// cache has kept (Age) says nothing. It is the wall clock that counts, for
// date has no other.
func skewOf(h http.Header, now time.Time) (skew time.Duration, ok bool) {
	date, err := http.ParseTime(h.Get("Date"))
	if err != nil || h.Get("Age") != "" {
		return 0, false
	}
	return now.Round(0).Sub(date.Add(time.Second / 2)), true
}

const connNotEstablished = "http2: client conn could not be established"

func isTLS(err error) bool {
	var (
		verify  *tls.CertificateVerificationError
		record  tls.RecordHeaderError
		invalid x509.CertificateInvalidError
		host    x509.HostnameError
		unknown x509.UnknownAuthorityError
		roots   x509.SystemRootsError
		op      *net.OpError
	)
	switch {
	case errors.As(err, &verify), errors.As(err, &record), errors.As(err, &invalid), errors.As(err, &host),
		errors.As(err, &unknown), errors.As(err, &roots), errors.Is(err, http.ErrSchemeMismatch):
		return true
	case errors.As(err, &op) && (op.Op == "remote error" || op.Op == "local error"):
		return true // an alert
	}
	// The last one is what is left of an alert that arrives after the client's
	// side of the handshake, when the server misses a certificate for example.
	return has(err.Error(), "tls: ", "TLS handshake timeout", connNotEstablished)
}

func has(text string, parts ...string) bool {
	for _, p := range parts {
		if strings.Contains(text, p) {
			return true
		}
	}
	return false
}

// remedy is what a person can do about err, "" when there is nothing general.
func remedy(err error) string {
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "; add the authority of the server's certificate with tls-ca-file or as HOST.crt in the certificate directory"
	}
	if errors.Is(err, http.ErrSchemeMismatch) {
		return "; is the server's URL to begin with http://?"
	}
	if has(err.Error(), connNotEstablished) {
		return "; the server ended the connection after the TLS handshake: does it want a client certificate (tls-cert-file, tls-key-file)?"
	}
	return ""
}

var userInfo = regexp.MustCompile(`://[^\s/"'@]*@`)

// clean makes text printable: no secrets, no user information of URLs, one
// line, bounded.
func (c *Client) clean(text string, secrets ...job.Secret) string {
	for _, s := range append(secrets, c.token) {
		if v := s.Reveal(); len(v) >= 4 {
			text = strings.ReplaceAll(text, v, job.Mask)
		}
	}
	text = userInfo.ReplaceAllString(text, "://")
	return oneLine(text, 500)
}

// oneLine replaces what a terminal could take for a command and cuts text.
func oneLine(text string, most int) string {
	text = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, text)
	text = strings.Join(strings.Fields(text), " ")
	if len(text) <= most {
		return text
	}
	for !utf8.RuneStart(text[most]) {
		most--
	}
	return text[:most] + "…"
}

// statusLine is "403 Forbidden", also for statuses without a name.
func statusLine(status int) string {
	if t := http.StatusText(status); t != "" {
		return strconv.Itoa(status) + " " + t
	}
	return strconv.Itoa(status)
}

// isJSON compares the media type only.
func isJSON(h http.Header) bool {
	t, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil && !errors.Is(err, mime.ErrInvalidMediaParameter) {
		return false
	}
	return t == "application/json"
}

// errorText finds what the body of an error says for people, "" when it says
// nothing that can be understood. A page of HTML says nothing.
func errorText(h http.Header, body []byte) string {
	t, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil && !errors.Is(err, mime.ErrInvalidMediaParameter) {
		t = ""
	}
	switch {
	case t == "application/json" || strings.HasSuffix(t, "+json"):
		return jsonText(body)
	case t == "application/xml" || t == "text/xml" || bytes.HasPrefix(bytes.TrimSpace(body), []byte("<?xml")):
		var e struct {
			Code    string `xml:"Code"`
			Message string `xml:"Message"`
		}
		if xml.Unmarshal(body, &e) != nil || e.Code == "" && e.Message == "" {
			return ""
		}
		return e.Code + ": " + e.Message
	case t == "text/plain":
		line, _, _ := strings.Cut(strings.TrimSpace(string(body[:min(len(body), 1024)])), "\n")
		if strings.Contains(line, "<") {
			return ""
		}
		return oneLine(line, 200)
	}
	return ""
}

func jsonText(body []byte) string {
	var e struct {
		Message json.RawMessage `json:"message"`
		Error   json.RawMessage `json:"error"`
	}
	if json.Unmarshal(body, &e) != nil {
		return ""
	}
	for _, raw := range []json.RawMessage{e.Message, e.Error} {
		var s string
		if json.Unmarshal(raw, &s) == nil && s != "" {
			return s
		}
		var fields map[string]list
		if json.Unmarshal(raw, &fields) != nil {
			continue
		}
		parts := make([]string, 0, len(fields))
		for k, v := range fields {
			parts = append(parts, k+": "+strings.Join(v, "; "))
		}
		if len(parts) > 0 {
			sort.Strings(parts)
			return strings.Join(parts, ", ")
		}
	}
	return ""
}
