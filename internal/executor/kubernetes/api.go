package kubernetes

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/klog/v2"

	"github.com/glassrunner/glassrunner/internal/config"
	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/pause"
)

const (
	// callTimeout bounds one request, execs apart.
	callTimeout = 30 * time.Second
	// patience is how long requests that fail for the network's or the
	// server's reasons are repeated, unless retry_limit says how often.
	patience = 2 * time.Minute
	// maxAnswer bounds the answer of the API server, in bytes.
	maxAnswer = 16 << 20
)

// api talks to one API server. It speaks JSON and knows no scheme: an object's
// path is given by who asks for it. That keeps everything but the types in use
// out of memory.
type api struct {
	config *rest.Config
	client *http.Client
	base   *url.URL
	bus    *event.Bus
	// limit is how often a request is repeated, -1: for as long as patience;
	// limits is the same by a part of the error's text.
	limit   int
	limits  map[string]int
	backoff time.Duration // largest wait between two tries
}

// connect reads how to reach the API server: an address and its certificates,
// the pod's own account, or the configuration of kubectl.
func connect(c *config.Kubernetes, token string, bus *event.Bus) (*api, string, error) {
	rc, namespace, err := restConfig(c)
	if err != nil {
		return nil, "", err
	}
	if token != "" {
		rc.BearerToken, rc.BearerTokenFile = token, ""
		rc.CertFile, rc.KeyFile, rc.CertData, rc.KeyData = "", "", nil, nil
		rc.ExecProvider, rc.AuthProvider, rc.Username, rc.Password = nil, nil, "", ""
	}
	rc.UserAgent = "glassrunner"
	base, _, err := rest.DefaultServerUrlFor(rc)
	if err != nil {
		return nil, "", fmt.Errorf("address of the API server: %w", err)
	}
	client, err := rest.HTTPClientFor(rc)
	if err != nil {
		return nil, "", err
	}
	a := &api{config: rc, client: client, base: base, bus: bus, limit: -1, limits: c.RetryLimits, backoff: 2 * time.Second}
	if c.RetryLimit > 0 {
		a.limit = c.RetryLimit
	}
	if c.RetryBackoffMax > 0 {
		a.backoff = time.Duration(c.RetryBackoffMax) * time.Millisecond
	}
	return a, namespace, nil
}

// restConfig also returns the namespace that the source names, or "".
func restConfig(c *config.Kubernetes) (*rest.Config, string, error) {
	if c.Host != "" {
		return &rest.Config{
			Host: c.Host, BearerToken: c.BearerToken.Reveal(),
			TLSClientConfig: rest.TLSClientConfig{CAFile: c.CAFile, CertFile: c.CertFile, KeyFile: c.KeyFile},
		}, "", nil
	}
	if c.Context == "" {
		rc, err := rest.InClusterConfig()
		if err == nil {
			if c.BearerToken != "" {
				rc.BearerToken, rc.BearerTokenFile = c.BearerToken.Reveal(), ""
			}
			return rc, ownNamespace(), nil
		}
		if !errors.Is(err, rest.ErrNotInCluster) {
			return nil, "", err
		}
	}
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(clientcmd.NewDefaultClientConfigLoadingRules(),
		&clientcmd.ConfigOverrides{CurrentContext: c.Context})
	rc, err := loader.ClientConfig()
	if err != nil {
		return nil, "", fmt.Errorf("no way to the API server: `host` is not set, this is no pod, and kubectl's configuration says: %w", err)
	}
	if c.BearerToken != "" {
		rc.BearerToken, rc.BearerTokenFile = c.BearerToken.Reveal(), ""
	}
	namespace, _, err := loader.Namespace()
	if err != nil {
		namespace = ""
	}
	return rc, namespace, nil
}

// ownNamespace is that of the pod that this process runs in.
func ownNamespace() string {
	b, err := os.ReadFile("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// core is the path of objects of core/v1 in a namespace.
func core(namespace, resource string, name ...string) string {
	return path.Join(append([]string{"/api/v1/namespaces", namespace, resource}, name...)...)
}

// get reads an object.
func (a *api) get(ctx context.Context, at string, into any) error {
	return a.call(ctx, "get", http.MethodGet, at, nil, nil, into)
}

// list reads a list of objects.
func (a *api) list(ctx context.Context, at string, query url.Values, into any) error {
	return a.call(ctx, "list", http.MethodGet, at, query, nil, into)
}

// create makes an object, once: one of that name that is there already was made
// by an earlier try whose answer was lost, as names are random.
func (a *api) create(ctx context.Context, at, name string, object, into any) error {
	err := a.call(ctx, "create", http.MethodPost, at, nil, object, into)
	if apierrors.IsAlreadyExists(err) && name != "" {
		return a.get(ctx, path.Join(at, name), into)
	}
	return err
}

// merge changes an object by a merge patch.
func (a *api) merge(ctx context.Context, at string, patch any) error {
	return a.call(ctx, "patch", http.MethodPatch, at, nil, patch, nil)
}

// remove deletes an object. One that is not there is no error. grace is in
// seconds; nil: the object's own.
func (a *api) remove(ctx context.Context, at string, grace *int64) error {
	background := metav1.DeletePropagationBackground
	err := a.call(ctx, "delete", http.MethodDelete, at, nil, &metav1.DeleteOptions{
		TypeMeta: metav1.TypeMeta{Kind: "DeleteOptions", APIVersion: "v1"}, GracePeriodSeconds: grace, PropagationPolicy: &background,
	}, nil)
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// call sends a request until it is answered with something that trying again
// would not change.
func (a *api) call(ctx context.Context, verb, method, at string, query url.Values, body, into any) error {
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return err
		}
	}
	began, wait := time.Now(), 250*time.Millisecond
	for try := 1; ; try++ {
		err := a.once(ctx, verb, method, at, query, text, into)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return errors.Join(context.Cause(ctx), err)
		case !transient(err):
			return err
		}
		if limit, ok := a.limitFor(err); ok && try > limit || !ok && time.Since(began) > patience {
			return err
		}
		if pause.For(ctx, wait/2+rand.N(wait)) != nil { //nolint:gosec // it only spreads the load
			return errors.Join(context.Cause(ctx), err)
		}
		wait = min(2*wait, a.backoff)
	}
}

func (a *api) limitFor(err error) (int, bool) {
	for part, n := range a.limits {
		if strings.Contains(err.Error(), part) {
			return n, true
		}
	}
	return a.limit, a.limit >= 0
}

// networkError says that the API server did not answer.
type networkError struct{ err error }

func (e *networkError) Error() string {
	return fmt.Sprintf("the Kubernetes API server does not answer: %v", e.err)
}

func (e *networkError) Unwrap() error { return e.err }

// transient reports whether a request may succeed when it is made again.
func transient(err error) bool {
	if _, ok := errors.AsType[*networkError](err); ok {
		return true
	}
	status, ok := errors.AsType[*apierrors.StatusError](err)
	return ok && (status.ErrStatus.Code >= 500 || status.ErrStatus.Code == http.StatusTooManyRequests)
}

func (a *api) once(ctx context.Context, verb, method, at string, query url.Values, body []byte, into any) (err error) {
	began := time.Now()
	defer func() {
		a.bus.Emit(ctx, event.KubernetesCalled{Verb: verb, Class: class(err), Took: time.Since(began)})
	}()
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var r io.Reader
	if body != nil {
		r = bytes.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, a.url(at, query).String(), r)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
		if method == http.MethodPatch {
			req.Header.Set("Content-Type", "application/merge-patch+json")
		}
	}
	res, err := a.client.Do(req)
	if err != nil {
		return &networkError{err}
	}
	defer func() { _ = res.Body.Close() }() // it was only read
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return &networkError{err}
	}
	if res.StatusCode >= 300 {
		return refusal(res.StatusCode, verb, at, answer)
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(answer, into); err != nil {
		return fmt.Errorf("answer of the API server: %w", err)
	}
	return nil
}

// refusal makes an error of an answer that is not what was asked for.
func refusal(code int, verb, at string, answer []byte) error {
	e := &apierrors.StatusError{}
	if json.Unmarshal(answer, &e.ErrStatus) != nil || e.ErrStatus.Kind != "Status" {
		e.ErrStatus = metav1.Status{
			Status: metav1.StatusFailure, Reason: metav1.StatusReasonUnknown,
			Message: fmt.Sprintf("%s %s: HTTP status %d: %.200s", verb, at, code, answer),
		}
		switch code {
		case http.StatusNotFound:
			e.ErrStatus.Reason = metav1.StatusReasonNotFound
		case http.StatusForbidden:
			e.ErrStatus.Reason = metav1.StatusReasonForbidden
		case http.StatusUnauthorized:
			e.ErrStatus.Reason = metav1.StatusReasonUnauthorized
		}
	}
	e.ErrStatus.Code = int32(code)
	return e
}

// class is the bounded kind of an error.
func class(err error) string {
	status, ok := errors.AsType[*apierrors.StatusError](err)
	switch {
	case err == nil || apierrors.IsNotFound(err):
		return ""
	case ok && status.ErrStatus.Code >= 500:
		return "http_5xx"
	case ok:
		return "http_4xx"
	}
	return "network"
}

func (a *api) url(at string, query url.Values) *url.URL {
	u := *a.base
	u.Path = path.Join(cmp.Or(u.Path, "/"), at)
	u.RawQuery = query.Encode()
	return &u
}

// streams are those of a process in a container.
type streams struct {
	in       io.Reader // nil: none
	out, err io.Writer
}

// exec runs a command in a container. An exit status is a codeError; other
// errors say that the connection could not be had or broke.
func (a *api) exec(ctx context.Context, namespace, pod, container string, command []string, s streams) error {
	query := url.Values{"container": {container}, "command": command, "stdout": {"true"}, "stderr": {"true"}}
	if s.in != nil {
		query.Set("stdin", "true")
	}
	u := a.url(core(namespace, "pods", pod, "exec"), query)
	ws, err := remotecommand.NewWebSocketExecutor(a.config, http.MethodGet, u.String())
	if err != nil {
		return err
	}
	spdy, err := remotecommand.NewSPDYExecutor(a.config, http.MethodPost, u)
	if err != nil {
		return err
	}
	// Servers before 1.30 do not speak WebSocket here.
	ex, err := remotecommand.NewFallbackExecutor(ws, spdy, notUpgraded)
	if err != nil {
		return err
	}
	// What breaks here is told by the error, and not by the library as well.
	ctx = klog.NewContext(ctx, logr.Discard())
	began := time.Now()
	first := &first{w: s.out, f: func() { a.bus.Emit(ctx, event.KubernetesCalled{Verb: "exec", Took: time.Since(began)}) }}
	err = ex.StreamWithContext(ctx, remotecommand.StreamOptions{Stdin: s.in, Stdout: first, Stderr: s.err})
	if !first.done.Load() && ctx.Err() == nil {
		c := ""
		if _, exited := exitStatus(err); !exited {
			c = class(err)
		}
		a.bus.Emit(ctx, event.KubernetesCalled{Verb: "exec", Class: c, Took: time.Since(began)})
	}
	return err
}

// first calls f with the first byte. A connection that was given up may still
// write.
type first struct {
	w    io.Writer
	f    func()
	done atomic.Bool
}

func (f *first) Write(p []byte) (int, error) {
	if f.done.CompareAndSwap(false, true) {
		f.f()
	}
	return f.w.Write(p)
}
