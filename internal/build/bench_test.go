package build_test

import (
	"bytes"
	"context"
	"io"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/glassrunner/glassrunner/internal/build"
	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/executor"
	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/redact"
	"github.com/glassrunner/glassrunner/internal/version"
)

// coordinator answers updates and keeps them.
type coordinator struct {
	mu      sync.Mutex
	updates []job.Update
	answer  func(job.Update) (job.Ack, error)
}

func (c *coordinator) Update(_ context.Context, u job.Update) (job.Ack, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	u.Checksum, u.Size = "", 0
	c.updates = append(c.updates, u)
	if c.answer != nil {
		return c.answer(u)
	}
	return job.Ack{Result: job.Accepted, Status: 200}, nil
}

func (c *coordinator) Append(_ context.Context, off int64, p []byte) (job.Ack, error) {
	return job.Ack{Result: job.Accepted, Status: 202, Offset: off + int64(len(p))}, nil
}

// memoryLog is a job's log that stays in memory.
type memoryLog struct {
	conn build.Conn

	mu       sync.Mutex
	text     bytes.Buffer
	on       func(job.Directive)
	started  chan struct{}
	finished bool
	fail     error
}

func (l *memoryLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *memoryLog) Close() error { return nil }

func (l *memoryLog) Stream(byte, bool) io.WriteCloser { return l }

func (l *memoryLog) Start(_ context.Context, on func(job.Directive)) {
	l.on = on
	close(l.started)
}

func (l *memoryLog) Finish(ctx context.Context, u job.Update) error {
	l.finished = true
	if l.fail != nil {
		return l.fail
	}
	_, err := l.conn.Update(ctx, u)
	return err
}

var sequences = regexp.MustCompile("\x1b\\[[0-9;]*[mK]")

func (l *memoryLog) plain() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return sequences.ReplaceAllString(l.text.String(), "")
}

// memoryJournal counts what is in it.
type memoryJournal struct {
	open, claims int
	ended        job.Update
}

func (j *memoryJournal) Begin(*job.Spec, job.Runner, bool) (build.Entry, error) {
	j.open++
	return j, nil
}
func (j *memoryJournal) LogPath() string            { return "" }
func (j *memoryJournal) Claim(executor.Claim) error { j.claims++; return nil }
func (j *memoryJournal) Ended(u job.Update) error   { j.ended = u; return nil }
func (j *memoryJournal) Done() error                { j.open--; return nil }

// place is an executor whose scripts are Go functions.
type place struct {
	traits  executor.Traits
	open    func(try int) error
	arrange func(executor.Request) error // nil: nothing to arrange
	run     func(ctx context.Context, c executor.Command) error

	mu     sync.Mutex
	tries  int
	phases []job.Phase
	closed int
	usage  func(ctx context.Context) (job.Usage, error) // nil: nothing is known
}

func (p *place) Usage(ctx context.Context) (job.Usage, error) {
	if p.usage == nil {
		return job.Usage{}, nil
	}
	return p.usage(ctx)
}

func (p *place) Traits() executor.Traits                        { return p.traits }
func (p *place) Disks(context.Context) ([]executor.Disk, error) { return nil, nil }

func (p *place) Open(_ context.Context, r executor.Request) (executor.Env, error) {
	p.tries++
	if p.open != nil {
		if err := p.open(p.tries); err != nil {
			return nil, err
		}
	}
	if p.arrange != nil {
		if err := p.arrange(r); err != nil {
			return nil, err
		}
	}
	return p, r.Claim(executor.Claim{Kind: "test"})
}

func (p *place) Leftovers(context.Context, []executor.Claim) ([]executor.Leftover, error) {
	return nil, nil
}
func (p *place) Reap(context.Context, executor.Claim) (int, error) { return 0, nil }
func (p *place) Place() executor.Place                             { return executor.Place{Hostname: "box"} }
func (p *place) Close(ctx context.Context) error                   { p.closed++; return ctx.Err() }

func (p *place) Run(ctx context.Context, c executor.Command) error {
	if len(c.Script) == 0 {
		return nil
	}
	p.mu.Lock()
	p.phases = append(p.phases, c.Phase)
	p.mu.Unlock()
	if p.run == nil {
		return nil
	}
	return p.run(ctx, c)
}

// bench holds one job and everything around it.
type bench struct {
	t       *testing.T
	spec    *job.Spec
	options *build.Options
	conn    *coordinator
	log     *memoryLog
	journal *memoryJournal
	place   *place
	facts   []event.Fact
}

func newBench(t *testing.T, change ...func(*bench)) *bench {
	t.Helper()
	b := &bench{
		t: t, conn: &coordinator{}, journal: &memoryJournal{},
		place: &place{traits: executor.Traits{
			Name: "test", BuildsDir: "/builds", CacheDir: "/cache", SharedBuilds: true, SharedEnv: true, Shell: "bash", LocalFiles: true,
		}},
		spec: &job.Spec{
			ID: 4711, Token: "glcbt-64_secret", Timeout: time.Hour,
			Info:      job.Info{Name: "unit", Stage: "test", ProjectID: 17},
			Git:       job.Git{RepoURL: "https://gitlab-ci-token:glcbt-64_secret@gitlab.example.test/acme/web.git", SHA: "3f786850e387550fdab836ed7e6dc881de23001b", Ref: "main", RefType: "branch"},
			Variables: job.Variables{{Key: "GIT_STRATEGY", Value: "none"}},
			Steps:     []job.Step{{Name: "script", Script: []string{"make test"}}, {Name: "after_script", Script: []string{"echo bye"}}},
		},
	}
	b.log = &memoryLog{conn: b.conn, started: make(chan struct{})}
	b.options = &build.Options{
		Runner:  job.Runner{Short: "abc", Name: "box", SystemID: "s_0123456789ab", Executor: "test"},
		URL:     "https://gitlab.example.test",
		Version: version.Info{Name: "glassrunner", Version: "1.2.3", Revision: "abcdef12", OS: "linux", Architecture: "amd64"},
		Driver:  b.place, Journal: b.journal, Slots: new(build.Slots),
		Bus: event.NewBus(event.ObserverFunc(func(e event.Event) { b.facts = append(b.facts, e.Fact) })),
		OpenLog: func(string, *redact.Masker, bool, build.Conn) (build.Log, error) {
			return b.log, nil
		},
		Flags: func(job.Variables) ([]build.Flag, []string) {
			return []build.Flag{{Name: "FF_ENABLE_JOB_INPUTS_INTERPOLATION", On: true, Default: true}}, nil
		},
	}
	for _, c := range change {
		c(b)
	}
	return b
}

// run takes the job through its whole life.
func (b *bench) run(ctx context.Context) job.Outcome {
	b.t.Helper()
	accepted, err := build.Accept(ctx, b.options, b.spec, b.conn)
	if err != nil {
		b.t.Fatal(err)
	}
	return accepted.Run(ctx)
}

func (b *bench) last() job.Update { return b.conn.updates[len(b.conn.updates)-1] }

func fact[F event.Fact](b *bench) (f F) {
	for _, x := range b.facts {
		if y, ok := x.(F); ok {
			f = y
		}
	}
	return f
}
