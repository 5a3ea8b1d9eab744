// Package executor is the contract between a job and the place where it
// runs. A Driver opens an Env per job; the Env runs one Command per phase
// and is closed once, whatever happened. Drivers know nothing of
// coordinators, job logs or metrics; the conformance suite in executortest
// says what each must hold to.
package executor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/glassrunner/glassrunner/internal/job"
)

// A Driver opens places for jobs. One driver serves one runner entry of one
// configuration generation; its methods may be called at the same time.
type Driver interface {
	// Traits says what the driver can do and where its jobs live.
	Traits() Traits
	// Open makes a place for a job. It writes what a person should know to
	// r.Log. An *Error tells that trying again is of no use, and why. After
	// an error nothing of the place is left.
	Open(ctx context.Context, r Request) (Env, error)
	// Disks returns the directories of this machine on which what jobs make
	// grows. It may have to ask an engine; where that cannot be asked or is on
	// another machine, there are fewer.
	Disks(ctx context.Context) ([]Disk, error)
	// Leftovers returns all that the driver finds on its machine, or its engine,
	// that carries the mark of this runner's state directory, whatever job it is
	// of, those that run included. Of the jobs that dead are claims of, it also
	// returns what only a claim can name. What runners with another state
	// directory made is not ours to see.
	Leftovers(ctx context.Context, dead []Claim) ([]Leftover, error)
	// Reap ends what a claim of an earlier process names and returns how
	// many processes (or containers, pods …) it ended. Nothing to end is
	// no error. A job's claims are reaped the newest first. ErrElsewhere says
	// that the claim is of a machine, an engine or a cluster to which this
	// driver's configuration does not lead; another driver's may.
	Reap(ctx context.Context, c Claim) (ended int, err error)
}

// An Env is one job's place. Its methods are called one at a time, but for
// Usage, which may be called beside Run.
type Env interface {
	Place() Place
	// Run runs c to its end. It returns nil, an *ExitError when the script
	// itself failed, an *Error for a failure with a known reason, or any
	// other error for trouble of the infrastructure. When ctx ends, Run
	// stops everything that c started, waits for that, and returns an error
	// that wraps context.Cause(ctx).
	Run(ctx context.Context, c Command) error
	// Usage returns what the job has used up to now, services included. It is
	// cheap enough to be called every few seconds. Figures only grow, but for
	// Memory. What is not known is left out; an error says that nothing could
	// be found out, which harms nobody. It is not called once Close was.
	Usage(ctx context.Context) (job.Usage, error)
	// Close ends all that the job left, daemons included, and gives the
	// place back. ctx is live and bounded, whatever happened to the job.
	Close(ctx context.Context) error
}

// Traits are the constants of a driver.
type Traits struct {
	Name          string // as in config.toml: "shell", "docker" …
	BuildsDir     string // default root of project directories, absolute or relative to a login directory
	CacheDir      string
	SharedBuilds  bool   // several jobs share BuildsDir: paths get token and slot
	CustomDirs    bool   // GIT_CLONE_PATH is allowed unless configured otherwise
	SafeDirectory bool   // git must be told that the directory is safe
	CleanConfig   bool   // remove .git/config before each job
	SharedEnv     bool   // jobs share a machine: CI_SHARED_ENVIRONMENT, else CI_DISPOSABLE_ENVIRONMENT
	Shell         string // default shell: "bash", "pwsh"
	// AnyShell: only a job's image decides which shell it has, so that scripts
	// for bash have to do with any POSIX shell.
	AnyShell      bool
	HelperCommand string // how a script calls the helper binary, "" when there is none
	// Claims is the kind of the driver's claims, "" when it makes none.
	Claims string
	// Where names the machine, engine or cluster of the jobs, "" this machine:
	// drivers with the same Claims and Where find the same Leftovers.
	Where string
	// LocalFiles: the driver carries out Command.Files itself, without a
	// process. Otherwise they are rendered into the script.
	LocalFiles bool
	// Arranges: the driver learns only while it opens a place where that is. A
	// Request has no Dirs then, its Variables lack what depends on them, and
	// Open calls Request.Arrange.
	Arranges bool
	// CloseTimeout is what Env.Close may take; 0: DefaultCloseTimeout.
	CloseTimeout time.Duration
	Features     []string // keys of info.features that the executor adds
}

// DefaultCloseTimeout bounds Env.Close.
const DefaultCloseTimeout = 5 * time.Minute

// Request is what Open needs to know of a job.
type Request struct {
	Spec      *job.Spec
	Runner    job.Runner
	Variables job.Variables // all of them, expanded, in order of precedence
	Dirs      Dirs
	Shell     string
	Log       io.Writer // the job log, runner's lines
	// ServiceLog opens the job log for the output of the n-th service; nil:
	// Log takes it.
	ServiceLog func(n int) io.WriteCloser
	// Concurrent and ConcurrentProject are CI_CONCURRENT_ID and
	// CI_CONCURRENT_PROJECT_ID.
	Concurrent, ConcurrentProject int
	// Claim stores what must be ended if this process dies. It is called
	// before the thing exists or at the latest before it runs user code.
	Claim func(Claim) error
	// Stage tells what the executor is at (the executor_stage label).
	Stage func(string)
	// Arrange settles the job's place, for a driver with Traits.Arranges.
	Arrange func(Layout) (Arrangement, error)
}

// A Layout is what a driver learns of a place while it opens it. What is
// empty stays as the runner's configuration has it.
type Layout struct {
	BuildsDir, CacheDir string
	SharedBuilds        *bool
	Shell               string
}

// An Arrangement is what a Request lacks before its place is settled.
type Arrangement struct {
	Dirs      Dirs
	Variables job.Variables // all of them
	Shell     string
}

// Claim names something of a job that outlives this process: a process
// tree, a container. It is stored as JSON and given to the same driver's
// Reap after a crash.
type Claim struct {
	Kind string            `json:"kind"`
	ID   string            `json:"id"`
	Data map[string]string `json:"data,omitempty"`
}

// Mark is what all claims of one job have in common, and no others.
func (c Claim) Mark() string {
	if m := c.Data["mark"]; m != "" {
		return m
	}
	return c.ID
}

// Leftover is something of a job that exists on a machine.
type Leftover struct {
	Kind  string    // one of event.OrphanKinds
	ID    string    // unique among those of its kind
	Since time.Time // when it was made; zero: not known
	Claim Claim     // what Reap ends it by; its Mark tells the job
}

// Dirs are a job's directories, as the job sees them.
type Dirs struct {
	Builds  string // root
	Project string // CI_PROJECT_DIR
	Temp    string // RUNNER_TEMP_PROJECT_DIR, Project + ".tmp"
	Cache   string // of local cache archives
}

// Disk is a directory of this machine that jobs fill.
type Disk struct {
	Root string // what is kept there: "builds", "cache" or "engine"
	Path string // absolute; it need not exist yet
}

// Place is what a job's log says of where it runs.
type Place struct {
	Hostname string // "build-box"
	Via      string // the runner's host when it is another one
}

// Target is which of a place's environments a command runs in.
type Target int

// Targets. Drivers with one environment make no difference.
const (
	Helper Target = iota
	Build
)

// Command is one phase's work.
type Command struct {
	Phase  job.Phase
	In     Target
	Files  []FileOp // before the script, in order; only with Traits.LocalFiles
	Script []byte   // for the job's shell; empty: start nothing
	Stdout io.Writer
	Stderr io.Writer
	// Grace is how long processes have between the polite and the hard
	// signal; 0 means DefaultGrace.
	Grace time.Duration
}

// DefaultGrace is the time between SIGTERM and SIGKILL.
const DefaultGrace = 10 * time.Second

// OpKind is what a FileOp does.
type OpKind int

// File operations. None follows a symbolic link in its last element; none
// fails because its work is done already.
const (
	OpMkdir  OpKind = iota // with parents
	OpWrite                // Data to Path, replacing it
	OpTouch                // make an empty file unless there is one
	OpRemove               // file or whole directory
	OpSweep                // remove files below Path whose base name matches one of Names (path.Match)
)

// FileOp prepares or tidies the job's files.
type FileOp struct {
	Kind  OpKind
	Path  string
	Data  []byte
	Mode  fs.FileMode // 0: 0700 for directories, 0600 for files
	Names []string
}

// ErrElsewhere says that a claim is not of a place that a driver can reach.
var ErrElsewhere = errors.New("no runner of the configuration reaches the place where the job may have left something")

// ExitError says that the user's script ended by itself and failed.
type ExitError struct {
	Code int
	// Text is the wording of the executor: "exit status 1", "exit code 1".
	Text string
}

// Error returns Text.
func (e *ExitError) Error() string {
	if e.Text == "" {
		return fmt.Sprintf("exit status %d", e.Code)
	}
	return e.Text
}

// Error is a failure whose reason is known; trying again is of no use.
type Error struct {
	Reason job.Reason
	Err    error
}

// Error returns the text of the error inside.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the error inside.
func (e *Error) Unwrap() error { return e.Err }
