package presign

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/glassrunner/glassrunner/internal/config"
	"github.com/glassrunner/glassrunner/internal/event"
)

const (
	// roleLife is how long credentials of a role are good for. It is the most
	// that every role allows.
	roleLife = time.Hour
	// roleLeft is how much of that must be left for an address: addresses are
	// good for no longer than the credentials that signed them.
	roleLeft = 20 * time.Minute
	// rolesAtOnce is AssumeRoleMaxConcurrency unless it is set.
	rolesAtOnce = 5
)

// role gets credentials of a role with others. They stay in this process, so
// they are the same for all objects and need no policy that narrows them down.
type role struct {
	arn, endpoint, region string
	base                  *credentials.Credentials
	places                chan struct{} // nil: no limit
	keep                  bool
	bus                   *event.Bus
	client                *http.Client
	holder                string
	now                   func() time.Time

	mu   sync.Mutex
	have credentials.Value
}

// newRole returns the role arn, nil when there is none.
func newRole(c *config.CacheS3, base *credentials.Credentials, arn string, places chan struct{}, bus *event.Bus) *role {
	if arn == "" {
		return nil
	}
	endpoint, region := tokenService(c)
	return &role{
		arn: arn, endpoint: endpoint, region: region, base: base, places: places, keep: !c.DisableAssumeRoleCredentialsCaching, bus: bus,
		client: &http.Client{Timeout: 30 * time.Second}, holder: rand.Text(), now: time.Now,
	}
}

// rolePlaces is the limit of calls at the same time for one storage.
func rolePlaces(c *config.CacheS3) chan struct{} {
	n := rolesAtOnce
	if c.AssumeRoleMaxConcurrency != nil && *c.AssumeRoleMaxConcurrency != 0 {
		n = *c.AssumeRoleMaxConcurrency
	}
	if n < 0 {
		return nil
	}
	return make(chan struct{}, n)
}

// tokenService is where roles are assumed: Amazon's, or that of a server which
// speaks for itself. AWS_ENDPOINT_URL_STS wins, as in Amazon's own programs.
func tokenService(c *config.CacheS3) (endpoint, region string) {
	region = c.BucketLocation
	if region == "" {
		region = "us-east-1"
	}
	host := c.ServerAddress
	switch {
	case os.Getenv("AWS_ENDPOINT_URL_STS") != "":
		return os.Getenv("AWS_ENDPOINT_URL_STS"), region
	case host == "" || strings.HasSuffix(host, "amazonaws.com"):
		return "https://sts." + region + ".amazonaws.com", region
	case c.Insecure:
		return "http://" + host, region
	}
	return "https://" + host, region
}

// kept returns credentials that are good for a while, if there are any.
func (r *role) kept() (credentials.Value, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.have, r.keep && r.have.Expiration.Sub(r.now()) >= roleLeft
}

// credentials returns those of the role.
func (r *role) credentials(ctx context.Context) (credentials.Value, error) {
	if v, ok := r.kept(); ok {
		r.bus.Emit(ctx, event.RoleCredentials{Kept: true, OK: true})
		return v, nil
	}
	fact := event.RoleCredentials{Limited: r.places != nil, Holder: r.holder}
	if r.places != nil {
		began := time.Now()
		select {
		case r.places <- struct{}{}:
		case <-ctx.Done():
			return credentials.Value{}, fmt.Errorf("assuming the role %s: %w", r.arn, context.Cause(ctx))
		}
		defer func() { <-r.places }()
		fact.Waited = time.Since(began)
		if v, ok := r.kept(); ok {
			fact.Kept, fact.OK = true, true
			r.bus.Emit(ctx, fact)
			return v, nil
		}
	}
	r.bus.Emit(ctx, event.RoleCalling{})
	began := time.Now()
	v, err := r.assume(ctx)
	fact.Took = time.Since(began)
	r.bus.Emit(ctx, event.RoleCalling{Done: true})
	if err != nil {
		r.bus.Emit(ctx, fact)
		return credentials.Value{}, fmt.Errorf("assuming the role %s at %s: %w", r.arn, r.endpoint, err)
	}
	fact.OK = true
	if r.keep {
		fact.Until = v.Expiration
		r.mu.Lock()
		r.have = v
		r.mu.Unlock()
	}
	r.bus.Emit(ctx, fact)
	return v, nil
}

// assume asks the token service.
func (r *role) assume(ctx context.Context) (credentials.Value, error) {
	cc := &credentials.CredContext{Client: r.client, Context: ctx}
	own, err := r.base.GetWithContext(cc)
	if err != nil {
		return credentials.Value{}, fmt.Errorf("the credentials to do that with: %w", err)
	}
	a := credentials.STSAssumeRole{Client: r.client, STSEndpoint: r.endpoint, Options: credentials.STSAssumeRoleOptions{
		AccessKey: own.AccessKeyID, SecretKey: own.SecretAccessKey, SessionToken: own.SessionToken,
		RoleARN: r.arn, RoleSessionName: "glassrunner-cache", Location: r.region, DurationSeconds: int(roleLife.Seconds()),
	}}
	v, err := a.RetrieveWithCredContext(cc)
	switch {
	case err != nil:
		return credentials.Value{}, err
	case v.AccessKeyID == "" || v.SecretAccessKey == "":
		return credentials.Value{}, errors.New("the answer has no credentials")
	}
	return v, nil
}

// withCredentials gives what is signed with ctx the credentials of the call at hand.
func withCredentials(ctx context.Context, v credentials.Value) context.Context {
	return context.WithValue(ctx, credentialsKey{}, v)
}

type credentialsKey struct{}

// fromContext is the provider of a client whose calls bring their credentials.
type fromContext struct{}

var errNoCredentials = errors.New("the call has no credentials")

func (fromContext) Retrieve() (credentials.Value, error) {
	return credentials.Value{}, errNoCredentials
}

func (fromContext) RetrieveWithCredContext(cc *credentials.CredContext) (credentials.Value, error) {
	if cc != nil && cc.Context != nil {
		if v, ok := cc.Context.Value(credentialsKey{}).(credentials.Value); ok {
			return v, nil
		}
	}
	return credentials.Value{}, errNoCredentials
}

func (fromContext) IsExpired() bool { return true }
