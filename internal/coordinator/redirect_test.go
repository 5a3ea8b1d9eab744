package coordinator_test

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/glassrunner/glassrunner/internal/coordinator"
	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/job"
)

func TestRedirectKeepsMethodAndBody(t *testing.T) {
	for _, status := range []int{307, 308} {
		var got []string
		to, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
			got = append(got, r.Method, r.URL.Path, r.Header.Get("Runner-Token"), r.Header.Get("Job-Token"))
			if r.Method == http.MethodPost {
				if body(t, r)["token"] != runnerToken {
					t.Error("the body was lost")
				}
				sendJSON(w, 201, smallJob)
				return
			}
			if b, _ := io.ReadAll(r.Body); string(b) != "hello" {
				t.Errorf("got body %q", b)
			}
			w.WriteHeader(http.StatusAccepted)
		})
		from, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, to+r.URL.Path, status)
		})
		c := newClient(t, options(from, nil))
		if spec, _, err := c.RequestJob(t.Context(), false); err != nil || spec == nil {
			t.Errorf("%d: %v", status, err)
		}
		if ack, err := c.Job(5, jobToken, false).Append(t.Context(), 0, []byte("hello")); err != nil || ack.Result != job.Accepted {
			t.Errorf("%d: %+v, %v", status, ack, err)
		}
		// Another port is another host: the tokens in headers stay behind.
		want := "POST /api/v4/jobs/request   PATCH /api/v4/jobs/5/trace  "
		if s := strings.Join(got, " "); s != want {
			t.Errorf("%d: got %q, want %q", status, s, want)
		}
	}
}

func TestRedirectOnTheSameHostKeepsTokens(t *testing.T) {
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/new/") {
			http.Redirect(w, r, "/new"+r.URL.Path, http.StatusTemporaryRedirect)
			return
		}
		if r.Header.Get("Runner-Token") != runnerToken {
			t.Error("the token was lost")
		}
		w.WriteHeader(http.StatusNoContent)
	})
	if _, _, err := newClient(t, options(url, nil)).RequestJob(t.Context(), false); err != nil {
		t.Error(err)
	}
}

func TestRedirectThatLosesData(t *testing.T) {
	for _, status := range []int{301, 302, 303} {
		rec := &recorder{}
		from, srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet {
				t.Error("the redirect was followed")
			}
			w.Header().Set("Location", "https://user:hunter2@real.test/git"+r.URL.Path+"?private_token=hunter2")
			w.WriteHeader(status)
		})
		c := newClient(t, options(strings.Replace(from, "http://", "http://me:hunter2@", 1), rec))
		_, res, err := c.RequestJob(t.Context(), false)
		wantText(t, err, srv.URL+"/api/v4/jobs/request", "https://real.test/git/api/v4/jobs/request",
			`use the final URL in config.toml: url = "https://real.test/git"`)
		noSecret(t, err)
		if res.Kind != coordinator.PollFailed || res.Status != status {
			t.Errorf("%d: got %+v", status, res)
		}
		if got := rec.last(t); got.Status != status || got.Class != event.ErrDecode {
			t.Errorf("%d: event %+v", status, got)
		}
		j := c.Job(5, jobToken, false)
		ack, err := j.Update(t.Context(), job.Update{State: job.WireRunning})
		if ack.Result != job.Trouble || ack.Directive != job.GoOn {
			t.Errorf("%d: got %+v", status, ack)
		}
		wantText(t, err, "use the final URL")
		ack, err = j.Append(t.Context(), 3, []byte("x"))
		if ack.Result != job.Trouble || ack.Offset != 3 {
			t.Errorf("%d: got %+v", status, ack)
		}
		wantText(t, err, "use the final URL")
		wantText(t, c.Unregister(t.Context()), "use the final URL")
	}
}

func TestRedirectLoopAndMissingLocation(t *testing.T) {
	n := 0
	from, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		n++
		http.Redirect(w, r, r.URL.Path, http.StatusTemporaryRedirect)
	})
	_, _, err := newClient(t, options(from, nil)).RequestJob(t.Context(), false)
	wantText(t, err, "stopped after 10 redirects")
	if n != 11 {
		t.Errorf("got %d requests, want 11", n)
	}
	for _, status := range []int{301, 307} {
		from, _ = serve(t, answer(status, nil))
		_, res, err := newClient(t, options(from, nil)).RequestJob(t.Context(), false)
		wantText(t, err, "not an answer")
		if res.Status != status {
			t.Errorf("got %+v", res)
		}
	}
	from, _ = serve(t, answer(307, headers{"Location": "http://[::bad"}))
	_, _, err = newClient(t, options(from, nil)).RequestJob(t.Context(), false)
	wantText(t, err, "POST "+from)
}

func TestDownloadNeverSendsTheTokenElsewhere(t *testing.T) {
	store, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Job-Token") != "" || strings.Contains(r.Referer(), "hunter2") {
			t.Errorf("got %v", r.Header)
		}
		_, _ = io.WriteString(w, "PK")
	})
	gitlab, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.String() != "/api/v4/jobs/4700/artifacts?direct_download=true" || r.Header.Get("Job-Token") != "dep-token" {
			t.Errorf("got %s %v", r.URL, r.Header)
		}
		u, _ := url.Parse(store)
		u.RawQuery = "signature=abc"
		http.Redirect(w, r, u.String(), http.StatusFound)
	})
	rec := &recorder{}
	j := newClient(t, options(gitlab, rec)).Job(4711, jobToken, false)
	d, err := j.DownloadArtifact(t.Context(), job.Dependency{ID: 4700, Token: "dep-token"}, true)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(d.Body)
	if err != nil || string(b) != "PK" || d.Size != 2 {
		t.Errorf("got %q, %d, %v", b, d.Size, err)
	}
	if err := d.Body.Close(); err != nil {
		t.Error(err)
	}
	if got := rec.last(t); got.Endpoint != "download_artifact" || got.Path != "/api/v4/jobs/{id}/artifacts" || got.Status != 200 {
		t.Errorf("event: %+v", got)
	}
}

func TestNoDowngrade(t *testing.T) {
	ca := newAuthority(t)
	plain, _ := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("tokens went over an open line") })
	srv := ca.serve(t, nil, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, plain+r.URL.Path, http.StatusPermanentRedirect)
	})
	o := options(srv.URL, nil)
	o.TLSCAFile = ca.file
	_, _, err := newClient(t, o).RequestJob(t.Context(), false)
	wantText(t, err, "without encryption")
}
