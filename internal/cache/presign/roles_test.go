package presign

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/glassrunner/glassrunner/internal/config"
	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/script"
)

// tokens is a token service over HTTP, which checks signatures by itself.
type tokens struct {
	*httptest.Server
	key, secret string // of who may assume roles
	life        time.Duration

	mu    sync.Mutex
	calls []url.Values
	fail  bool
	hold  chan struct{} // nil, or what a call waits for
}

func newTokens(t *testing.T) *tokens {
	s := &tokens{key: "BASEKEY", secret: "base-secret", life: time.Hour}
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.Close)
	return s
}

func (s *tokens) serve(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	if why := s.refuse(r, body); why != "" {
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprintf(w, `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>SignatureDoesNotMatch</Code><Message>%s</Message></Error></ErrorResponse>`, why)
		return
	}
	form, _ := url.ParseQuery(string(body))
	s.mu.Lock()
	s.calls = append(s.calls, form)
	n, fail, hold := len(s.calls), s.fail, s.hold
	s.mu.Unlock()
	if hold != nil {
		<-hold
	}
	if fail {
		w.WriteHeader(http.StatusForbidden)
		io.WriteString(w, `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>this role is not for you</Message></Error></ErrorResponse>`)
		return
	}
	fmt.Fprintf(w, `<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>
<AccessKeyId>ROLEKEY%d</AccessKeyId><SecretAccessKey>role-secret-%d</SecretAccessKey><SessionToken>role-token-%d</SessionToken><Expiration>%s</Expiration>
</Credentials></AssumeRoleResult></AssumeRoleResponse>`, n, n, n, time.Now().Add(s.life).UTC().Format(time.RFC3339))
}

// refuse checks a signature of version 4 as the service's documentation has it.
func (s *tokens) refuse(r *http.Request, body []byte) string {
	auth, ok := strings.CutPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 ")
	if !ok {
		return "no signature"
	}
	parts := map[string]string{}
	for p := range strings.SplitSeq(auth, ",") {
		k, v, _ := strings.Cut(strings.TrimSpace(p), "=")
		parts[k] = v
	}
	scope := strings.Split(parts["Credential"], "/")
	if len(scope) != 5 || scope[0] != s.key || scope[3] != "sts" {
		return "credential " + parts["Credential"]
	}
	var headers strings.Builder
	for name := range strings.SplitSeq(parts["SignedHeaders"], ";") {
		value := r.Header.Get(name)
		if name == "host" {
			value = r.Host
		}
		headers.WriteString(name + ":" + strings.TrimSpace(value) + "\n")
	}
	sum := sha256.Sum256(body)
	request := strings.Join([]string{r.Method, "/", "", headers.String(), parts["SignedHeaders"], hex.EncodeToString(sum[:])}, "\n")
	digest := sha256.Sum256([]byte(request))
	text := strings.Join([]string{"AWS4-HMAC-SHA256", r.Header.Get("X-Amz-Date"), strings.Join(scope[1:], "/"), hex.EncodeToString(digest[:])}, "\n")
	key := []byte("AWS4" + s.secret)
	for _, step := range append(scope[1:], text) {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(step))
		key = mac.Sum(nil)
	}
	if hex.EncodeToString(key) != parts["Signature"] {
		return "wrong signature"
	}
	return ""
}

// facts records events of roles.
type facts struct {
	mu   sync.Mutex
	list []string
}

func (f *facts) Observe(e event.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch x := e.Fact.(type) {
	case event.RoleCalling:
		f.list = append(f.list, fmt.Sprint("calling done=", x.Done))
	case event.RoleCredentials:
		f.list = append(f.list, fmt.Sprintf("kept=%t ok=%t limited=%t until=%t", x.Kept, x.OK, x.Limited, !x.Until.IsZero()))
	default:
	}
}

func (f *facts) take() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.list
	f.list = nil
	return l
}

func (s *tokens) config() *config.CacheS3 {
	return &config.CacheS3{
		ServerAddress: strings.TrimPrefix(s.URL, "http://"), Insecure: true, AccessKey: "BASEKEY", SecretKey: "base-secret",
		BucketName: "caches", BucketLocation: "eu-1",
	}
}

// signer returns the access key and the token that signed an address.
func signedBy(t *testing.T, raw string) string {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	key, _, _ := strings.Cut(u.Query().Get("X-Amz-Credential"), "/")
	return strings.TrimSpace(key + " " + u.Query().Get("X-Amz-Security-Token"))
}

func links(t *testing.T, s *Store) (get, put string) {
	t.Helper()
	down, err := s.Link(t.Context(), script.CacheObject{Project: 1, Name: "k"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	up, err := s.Link(t.Context(), script.CacheObject{Project: 1, Name: "k", Upload: true}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if a, b := signedBy(t, down.HeadURL.Reveal()), signedBy(t, up.HeadURL.Reveal()); strings.HasPrefix(a, "ROLE") != strings.HasPrefix(b, "ROLE") {
		t.Errorf("HEAD is signed by %s and by %s", a, b)
	}
	return signedBy(t, down.URL.Reveal()), signedBy(t, up.URL.Reveal())
}

func TestRoles(t *testing.T) {
	for _, tt := range []struct {
		name     string
		set      func(*config.CacheS3)
		get, put string
		calls    int
	}{
		{"none", func(*config.CacheS3) {}, "BASEKEY", "BASEKEY", 0},
		{"one", func(c *config.CacheS3) { c.RoleARN = "arn:r" }, "ROLEKEY1 role-token-1", "ROLEKEY1 role-token-1", 1},
		{"for uploads", func(c *config.CacheS3) { c.UploadRoleARN = "arn:u" }, "BASEKEY", "ROLEKEY1 role-token-1", 1},
		{"two", func(c *config.CacheS3) { c.RoleARN, c.UploadRoleARN = "arn:r", "arn:u" }, "ROLEKEY1 role-token-1", "ROLEKEY2 role-token-2", 2},
		{"twice the same", func(c *config.CacheS3) { c.RoleARN, c.UploadRoleARN = "arn:r", "arn:r" }, "ROLEKEY1 role-token-1", "ROLEKEY1 role-token-1", 1},
		{"not kept", func(c *config.CacheS3) { c.RoleARN, c.DisableAssumeRoleCredentialsCaching = "arn:r", true }, "ROLEKEY1 role-token-1", "ROLEKEY3 role-token-3", 4},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sts := newTokens(t)
			c := sts.config()
			tt.set(c)
			s, err := New(&config.Cache{Type: "s3", Shared: true, S3: c}, "abc", event.NewBus())
			if err != nil {
				t.Fatal(err)
			}
			get, put := links(t, s)
			if get != tt.get || put != tt.put || len(sts.calls) != tt.calls {
				t.Errorf("signed by %q and %q after %d calls, want %q and %q after %d", get, put, len(sts.calls), tt.get, tt.put, tt.calls)
			}
			for _, f := range sts.calls {
				if f.Get("Action") != "AssumeRole" || !strings.HasPrefix(f.Get("RoleArn"), "arn:") || f.Get("DurationSeconds") != "3600" || f.Get("RoleSessionName") == "" {
					t.Errorf("call: %v", f)
				}
			}
		})
	}
}

func TestRoleFacts(t *testing.T) {
	sts := newTokens(t)
	c := sts.config()
	c.RoleARN = "arn:r"
	var seen facts
	s, err := New(&config.Cache{Type: "s3", S3: c}, "abc", event.NewBus(&seen))
	if err != nil {
		t.Fatal(err)
	}
	get := func() error {
		_, err := s.Link(t.Context(), script.CacheObject{Project: 1, Name: "k"}, time.Hour)
		return err
	}
	sts.fail = true
	if err := get(); err == nil || !strings.Contains(err.Error(), "assuming the role arn:r") || !strings.Contains(err.Error(), "this role is not for you") || strings.Contains(err.Error(), "base-secret") {
		t.Errorf("refused: %v", err)
	}
	sts.fail = false
	for range 2 {
		if err := get(); err != nil {
			t.Fatal(err)
		}
	}
	kept := "kept=true ok=true limited=false until=false"
	want := []string{
		"calling done=false", "calling done=true", "kept=false ok=false limited=true until=false",
		"calling done=false", "calling done=true", "kept=false ok=true limited=true until=true", kept, // GET, HEAD
		kept, kept,
	}
	if diff := cmp.Diff(want, seen.take()); diff != "" {
		t.Errorf("facts (-want +got):\n%s", diff)
	}
	// An address lives no longer than the credentials: those that end soon are not used.
	r := s.sign.(*s3).download.role
	r.now = func() time.Time { return time.Now().Add(45 * time.Minute) }
	if err := get(); err != nil {
		t.Fatal(err)
	}
	if n := len(sts.calls); n != 4 { // GET and HEAD: what comes is as old
		t.Errorf("%d calls, want 4", n)
	}
}

// No more calls at once than are allowed, and who waited takes what is there.
func TestRolesAtOnce(t *testing.T) {
	sts := newTokens(t)
	sts.hold = make(chan struct{})
	c := sts.config()
	c.RoleARN, c.AssumeRoleMaxConcurrency = "arn:r", new(2)
	var seen facts
	s, err := New(&config.Cache{Type: "s3", S3: c}, "abc", event.NewBus(&seen))
	if err != nil {
		t.Fatal(err)
	}
	r := s.sign.(*s3).download.role
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := r.credentials(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	calls := func() int { sts.mu.Lock(); defer sts.mu.Unlock(); return len(sts.calls) }
	for end := time.Now().Add(10 * time.Second); calls() < 2 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	// A wait for a place ends with its context.
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(fmt.Errorf("no more"))
	if _, err := r.credentials(ctx); err == nil || !strings.Contains(err.Error(), "no more") {
		t.Errorf("a wait that is ended: %v", err)
	}
	close(sts.hold)
	wg.Wait()
	if n := calls(); n != 2 {
		t.Errorf("%d calls, want 2", n)
	}
	kept := 0
	for _, f := range seen.take() {
		if strings.HasPrefix(f, "kept=true") {
			kept++
		}
	}
	if kept != 6 {
		t.Errorf("%d took what was there, want 6", kept)
	}
}

func TestTokenService(t *testing.T) {
	for _, tt := range []struct {
		c                config.CacheS3
		env              string
		endpoint, region string
	}{
		{config.CacheS3{}, "", "https://sts.us-east-1.amazonaws.com", "us-east-1"},
		{config.CacheS3{ServerAddress: "s3.amazonaws.com", BucketLocation: "eu-west-1"}, "", "https://sts.eu-west-1.amazonaws.com", "eu-west-1"},
		{config.CacheS3{ServerAddress: "minio.test:9000"}, "", "https://minio.test:9000", "us-east-1"},
		{config.CacheS3{ServerAddress: "minio.test:9000", Insecure: true}, "", "http://minio.test:9000", "us-east-1"},
		{config.CacheS3{ServerAddress: "minio.test:9000"}, "http://sts.test", "http://sts.test", "us-east-1"},
	} {
		t.Setenv("AWS_ENDPOINT_URL_STS", tt.env)
		if endpoint, region := tokenService(&tt.c); endpoint != tt.endpoint || region != tt.region {
			t.Errorf("%+v: %s in %s, want %s in %s", tt.c, endpoint, region, tt.endpoint, tt.region)
		}
	}
}
