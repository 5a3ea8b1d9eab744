package fakegitlab

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"
)

// DefaultRegistrationToken is the registration token of a server whose options name none.
const DefaultRegistrationToken = "GR1348941fakegitlab"

// DefaultAdminToken is the personal access token of a server whose options name none.
const DefaultAdminToken = "glpat-fakegitlabadmin01"

// ErrNoRunner is returned for a runner token or id that the server does not know.
var ErrNoRunner = errors.New("no such runner")

// RunnerConfig describes a runner for [Server.AddRunner]. The zero value is a runner that takes every job.
type RunnerConfig struct {
	Token       string // empty makes a created-runner token (glrt-)
	Description string
	Tags        []string
	OnlyTagged  bool // do not take jobs without tags
	Paused      bool
	ExpiresAt   time.Time // of the token; zero is never
	Limits      Limits
}

// Limits are what the runner's configuration promises, for rules 17 and 18. Zero fields are not checked.
type Limits struct {
	Limit              int           // jobs and job requests at a time
	RequestConcurrency int           // job requests at a time
	CheckInterval      time.Duration // between the starts of job requests of one manager
}

// Runner describes a runner of the server.
type Runner struct {
	ID          int64
	Token       string
	Description string
	Tags        []string
	OnlyTagged  bool
	Paused      bool
	ExpiresAt   time.Time
	Managers    []Manager
	Running     int // jobs handed out and not final
	Polling     int // job requests in flight
}

// Manager is a machine that uses a runner's token.
type Manager struct {
	SystemID         string
	Version          string
	Platform         string
	Architecture     string
	Executor         string
	Labels           map[string]string
	CancelGracefully bool
	FirstContact     time.Time
	LastContact      time.Time
	JobRequests      int
	Info             []byte // the last info as sent, JSON
}

// runner is guarded by Server.mu.
type runner struct {
	id       int64
	token    string
	config   RunnerConfig
	expires  time.Time
	managers map[string]*manager
	queue    string        // the opaque last-update value
	ticks    uint64        // what queue is made of
	changed  chan struct{} // closed when queue changes
	requests int           // in flight
	running  int
	created  time.Time
}

type manager struct {
	systemID  string
	raw       string // info as last checked
	info      *runnerInfo
	first     time.Time
	last      time.Time
	requests  int
	lastStart time.Time // of the last job request
	free      bool      // the next request need not wait for check_interval
}

// refusals counts consecutive 403 of job requests by token.
type refusals struct {
	count int
	since time.Time
}

// AddRunner makes a runner as an administrator does and returns its id and token.
func (s *Server) AddRunner(config RunnerConfig) Runner {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addRunner(config, "glrt-t1_", config.ExpiresAt).view()
}

func (s *Server) addRunner(config RunnerConfig, prefix string, expires time.Time) *runner {
	ru := &runner{
		id: s.nextID, token: config.Token, config: config, expires: expires,
		managers: make(map[string]*manager), changed: make(chan struct{}), created: s.now(),
	}
	s.nextID++
	if ru.token == "" {
		ru.token = s.secret(prefix, "runner", uint64(ru.id), 0)
	}
	s.tick(ru)
	s.runners[ru.id] = ru
	s.byToken[ru.token] = ru
	return ru
}

// secret derives a token from the seed.
func (s *Server) secret(prefix, kind string, id, generation uint64) string {
	const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	buf := append([]byte(kind), make([]byte, 24)...)
	binary.BigEndian.PutUint64(buf[len(kind):], s.opts.Seed)
	binary.BigEndian.PutUint64(buf[len(kind)+8:], id)
	binary.BigEndian.PutUint64(buf[len(kind)+16:], generation)
	sum := sha256.Sum256(buf)
	out := []byte(prefix)
	for _, b := range sum[:20] {
		out = append(out, alphabet[int(b)%len(alphabet)])
	}
	return string(out)
}

// tick changes the queue value of a runner and wakes its long polls.
func (s *Server) tick(ru *runner) {
	ru.ticks++
	var buf [16]byte
	binary.BigEndian.PutUint64(buf[:], uint64(ru.id))
	binary.BigEndian.PutUint64(buf[8:], ru.ticks)
	sum := sha256.Sum256(buf[:])
	ru.queue = hexString(sum[:16])
	close(ru.changed)
	ru.changed = make(chan struct{})
}

func (ru *runner) view() Runner {
	out := Runner{
		ID: ru.id, Token: ru.token, Description: ru.config.Description, Tags: slices.Clone(ru.config.Tags),
		OnlyTagged: ru.config.OnlyTagged, Paused: ru.config.Paused, ExpiresAt: ru.expires, Running: ru.running, Polling: ru.requests,
	}
	for _, m := range ru.managers {
		out.Managers = append(out.Managers, Manager{
			SystemID: m.systemID, Version: m.info.Version, Platform: m.info.Platform, Architecture: m.info.Architecture,
			Executor: m.info.Executor, Labels: m.info.Labels, CancelGracefully: m.info.has("cancel_gracefully"),
			FirstContact: m.first, LastContact: m.last, JobRequests: m.requests, Info: []byte(m.raw),
		})
	}
	slices.SortFunc(out.Managers, func(a, b Manager) int { return strings.Compare(a.SystemID, b.SystemID) })
	return out
}

// Runners lists all runners by id.
func (s *Server) Runners() []Runner {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Runner, 0, len(s.runners))
	for _, ru := range s.runners {
		out = append(out, ru.view())
	}
	slices.SortFunc(out, func(a, b Runner) int { return int(a.ID - b.ID) })
	return out
}

// Runner returns the runner with a token.
func (s *Server) Runner(token string) (Runner, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ru := s.byToken[token]; ru != nil {
		return ru.view(), nil
	}
	return Runner{}, ErrNoRunner
}

// Pause stops or resumes handing jobs to a runner.
func (s *Server) Pause(token string, paused bool) error {
	return s.editRunner(token, func(ru *runner) {
		ru.config.Paused = paused
		s.tick(ru)
	})
}

// SetLimits changes what rules 17 and 18 expect of a runner.
func (s *Server) SetLimits(token string, limits Limits) error {
	return s.editRunner(token, func(ru *runner) { ru.config.Limits = limits })
}

// SetConcurrent changes the bound of jobs and job requests in all that rule 17 expects; 0 is not checked.
func (s *Server) SetConcurrent(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opts.Concurrent = n
}

// ExpireRunner lets a runner's token expire at t.
func (s *Server) ExpireRunner(token string, t time.Time) error {
	return s.editRunner(token, func(ru *runner) { ru.expires = t })
}

// RemoveRunner deletes a runner: its token is refused from now on. Its running jobs go on.
func (s *Server) RemoveRunner(token string) error {
	return s.editRunner(token, s.dropRunner)
}

func (s *Server) dropRunner(ru *runner) {
	delete(s.byToken, ru.token)
	delete(s.runners, ru.id)
	s.tick(ru)
}

func (s *Server) editRunner(token string, edit func(*runner)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	ru := s.byToken[token]
	if ru == nil {
		return ErrNoRunner
	}
	edit(ru)
	return nil
}

// findRunner finds the runner of a token that is still good.
func (s *Server) findRunner(token string) *runner {
	ru := s.byToken[token]
	if ru == nil || !ru.expires.IsZero() && !s.now().Before(ru.expires) {
		return nil
	}
	return ru
}

// touchManager records a contact with info, which rule 8 is checked for when it changed.
func (s *Server) touchManager(ru *runner, systemID string, raw json.RawMessage, what string) *manager {
	m := ru.managers[systemID]
	if m == nil {
		m = &manager{systemID: systemID, first: s.now(), free: true, info: &runnerInfo{}}
		ru.managers[systemID] = m
	}
	m.last = s.now()
	if m.raw == "" || m.raw != string(raw) {
		m.info = s.checkInfo(raw, what, 0)
		m.raw = string(raw)
	}
	return m
}
