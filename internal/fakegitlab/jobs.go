package fakegitlab

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Status is the state of a job as in the header Job-Status.
type Status string

// The states that a job of this server can have.
const (
	Pending   Status = "pending"
	Running   Status = "running"
	Canceling Status = "canceling"
	Success   Status = "success"
	Failed    Status = "failed"
	Canceled  Status = "canceled"
)

// Final tells whether a job with the status is over.
func (s Status) Final() bool { return s == Success || s == Failed || s == Canceled }

// ErrNoJob is returned for a job id that the server does not know.
var ErrNoJob = errors.New("no such job")

// ErrFinal is returned when a job that is over should be changed.
var ErrFinal = errors.New("job is over")

// Job describes a job for [Server.Enqueue]. The zero value is a job named "job" of stage "test" with an
// empty script and a timeout of one hour. Without a Project it gets the variable GIT_STRATEGY=none, unless
// Variables holds one.
type Job struct {
	Name         string
	Stage        string
	Script       []string
	AfterScript  []string
	Release      []string // script of a step named release
	Variables    []Variable
	Timeout      time.Duration // in whole seconds; 0 is one hour
	AllowFailure bool
	Image        *Image
	Services     []Service
	Artifacts    []ArtifactSpec
	Cache        []Cache
	Hooks        []Hook
	Inputs       []Input
	Secrets      map[string]any
	Dependencies []int64 // ids of earlier jobs whose archive is offered

	// Project is the path of a project of [Server.AddProject]; empty invents one without a repository.
	Project string
	Ref     string // branch or tag of the project; empty is its default branch
	SHA     string // empty is the tip of Ref
	Depth   int    // 0 is GitLab's default of 20, negative is the full history
	Clone   bool   // allow_git_fetch=false

	Tags       []string
	Runner     string // token of the only runner that may have it; empty is any
	PipelineID int64  // 0 makes one

	// Edit has the last word over every field of the payload.
	Edit func(*Payload)
	// Raw replaces the JSON of the 201 answer; %ID% and %TOKEN% in it are replaced.
	Raw []byte
	// ContentType of the 201 answer; empty is application/json.
	ContentType string

	// PersistRounds, if positive, replaces Options.PersistRounds for this job.
	PersistRounds int
	// UpdateInterval, if not 0, replaces Options.UpdateInterval for this job (negative leaves the header out).
	UpdateInterval int
	// Relax lists rules that are not checked for this job.
	Relax []Rule
}

// job is guarded by Server.mu; spec and id never change.
type job struct {
	id       int64
	spec     Job
	runnerID int64
	project  *Project
	commit   commitInfo
	done     chan struct{} // closed when final

	status     Status
	reason     string
	exitCode   int
	token      string
	generation uint64
	waiting    bool // two-phase: handed out, not acknowledged
	acked      bool
	lost       bool
	counted    bool // in runner.running
	erased     bool
	runner     *runner
	manager    *manager
	sent       sentPayload
	handouts   int

	trace     []byte // append-only: snapshots share its beginning
	size      int64
	crc       uint32
	debug     bool
	checksum  string // of the final PUT
	bytesize  int64
	artifacts map[string]*Artifact

	enqueued, handedOut, ackedAt, firstOutput, finishedAt time.Time
	lastContact                                           time.Time
	patches, puts, finals, resets, replays, uploads       int

	rules

	ackTimer, contactTimer, limitTimer *time.Timer
}

// rules is what the checks remember of one hand-out.
type rules struct {
	interval     int       // last X-GitLab-Trace-Update-Interval sent
	notBefore    time.Time // earliest repetition of a final PUT answered 202
	rounds       int       // 202 answers to final PUTs
	firstFinal   string    // what the first final PUT said
	byRunner     bool      // the runner's final PUT ended the job
	ackRefused   bool
	ackCanceling bool
	patchEarly   bool // PATCH before the acknowledgement
	patchRefused bool // a PATCH was answered with abort or 404
	afterEnd     int  // requests after the end of the job was told
	disturbed    bool // a fault touched a request of the job
	loosePatch   bool // the answer of a PATCH was lost, or the trace cut
	looseFinal   bool // the answer of a final PUT was lost
	silent       bool // rule 16 recorded
}

func (j *job) final() bool { return j.status.Final() }

func (j *job) timeout() time.Duration {
	if j.spec.Timeout <= 0 {
		return time.Hour
	}
	return j.spec.Timeout
}

// release takes the job out of its runner's count.
func (j *job) release() {
	if j.counted {
		j.counted = false
		j.runner.running--
	}
}

func (j *job) setTimer(t **time.Timer, d time.Duration, f func()) {
	if *t != nil {
		(*t).Stop()
	}
	*t = time.AfterFunc(d, f)
}

func (j *job) stopTimers() {
	for _, t := range []*time.Timer{j.ackTimer, j.contactTimer, j.limitTimer} {
		if t != nil {
			t.Stop()
		}
	}
}

// Snapshot is a job at one moment.
type Snapshot struct {
	ID            int64
	Name          string
	Stage         string
	Status        Status
	FailureReason string
	ExitCode      int
	Token         string
	RunnerID      int64
	SystemID      string
	PipelineID    int64

	Trace     []byte // shared, not to be written to; nil once discarded
	TraceSize int64
	TraceCRC  uint32 // CRC-32 IEEE of the trace
	Checksum  string // output.checksum of the final PUT
	Bytesize  int64  // output.bytesize of the final PUT
	Debug     bool   // debug_trace of the first chunk

	EnqueuedAt    time.Time
	HandedOutAt   time.Time // last hand-out
	AckedAt       time.Time
	FirstOutputAt time.Time
	FinishedAt    time.Time
	LastContact   time.Time

	Handouts  int
	Patches   int // all PATCH requests
	Puts      int // all PUT requests
	Finals    int // PUT requests with success or failed
	Resets    int // PATCH answered 416
	Replays   int // PATCH of bytes that were stored already, answered 202
	Uploads   int // artifact uploads answered 201
	Waiting   bool
	Acked     bool
	Lost      bool // a fault destroyed the answer that handed the job out
	ByRunner  bool // the runner's final PUT ended the job
	Artifacts []Artifact
}

func (j *job) snapshot() Snapshot {
	out := Snapshot{
		ID: j.id, Name: j.spec.Name, Stage: j.spec.Stage, Status: j.status, FailureReason: j.reason, ExitCode: j.exitCode,
		Token: j.token, PipelineID: j.spec.PipelineID,
		Trace: slices.Clip(j.trace), TraceSize: j.size, TraceCRC: j.crc, Checksum: j.checksum,
		Bytesize: j.bytesize, Debug: j.debug,
		EnqueuedAt: j.enqueued, HandedOutAt: j.handedOut, AckedAt: j.ackedAt, FirstOutputAt: j.firstOutput,
		FinishedAt: j.finishedAt, LastContact: j.lastContact,
		Handouts: j.handouts, Patches: j.patches, Puts: j.puts, Finals: j.finals, Resets: j.resets, Replays: j.replays,
		Uploads: j.uploads, Waiting: j.waiting, Acked: j.acked, Lost: j.lost, ByRunner: j.byRunner,
	}
	if j.runner != nil {
		out.RunnerID, out.SystemID = j.runner.id, j.manager.systemID
	}
	for _, a := range j.artifacts {
		out.Artifacts = append(out.Artifacts, *a)
	}
	slices.SortFunc(out.Artifacts, func(a, b Artifact) int { return strings.Compare(a.Type, b.Type) })
	return out
}

// Enqueue adds a job to the queue and returns its id. It fails only for a Project, Ref, Runner or
// dependency that does not exist.
func (s *Server) Enqueue(spec Job) (int64, error) {
	spec.Name = cmp.Or(spec.Name, "job")
	spec.Stage = cmp.Or(spec.Stage, "test")
	j, err := s.newJob(spec)
	if err != nil {
		return 0, err
	}
	if j.project != nil {
		if err := j.project.pin(j.spec.PipelineID, j.commit.sha); err != nil {
			return 0, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	j.enqueued = s.now()
	s.jobs[j.id] = j
	s.pending = append(s.pending, j)
	s.stats.Enqueued++
	s.announce(j)
	s.touched(j)
	return j.id, nil
}

// newJob checks a job and gives it an id.
func (s *Server) newJob(spec Job) (*job, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	j := &job{spec: spec, status: Pending, done: make(chan struct{})}
	if spec.Runner != "" {
		ru := s.byToken[spec.Runner]
		if ru == nil {
			return nil, ErrNoRunner
		}
		j.runnerID = ru.id
	}
	for _, id := range spec.Dependencies {
		if s.jobs[id] == nil {
			return nil, fmt.Errorf("dependency %d: %w", id, ErrNoJob)
		}
	}
	if spec.Project != "" {
		j.project = s.projects[strings.Trim(spec.Project, "/")]
		if j.project == nil {
			return nil, fmt.Errorf("project %q: %w", spec.Project, ErrNoProject)
		}
		var err error
		if j.commit, err = j.project.resolve(spec.Ref, spec.SHA); err != nil {
			return nil, err
		}
	}
	j.id = s.nextJob
	s.nextJob++
	if j.spec.PipelineID == 0 {
		j.spec.PipelineID = j.id + 5000
	}
	return j, nil
}

// Job returns the job with an id.
func (s *Server) Job(id int64) (Snapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if j := s.jobs[id]; j != nil {
		return j.snapshot(), nil
	}
	return Snapshot{}, ErrNoJob
}

// Jobs lists all jobs by id.
func (s *Server) Jobs() []Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Snapshot, 0, len(s.jobs))
	for _, id := range slices.Sorted(maps.Keys(s.jobs)) {
		out = append(out, s.jobs[id].snapshot())
	}
	return out
}

// touched tells the watchers of a change.
func (s *Server) touched(j *job) {
	for w := range s.watchers {
		w.add(j)
	}
}

// finish ends a job. It does nothing if the job is over.
func (s *Server) finish(j *job, status Status, reason string) {
	if j.final() {
		return
	}
	if j.status == Pending {
		if i := slices.Index(s.pending, j); i >= 0 {
			s.pending = slices.Delete(s.pending, i, i+1)
		}
	}
	j.stopTimers()
	j.status, j.reason, j.waiting = status, reason, false
	j.finishedAt = s.now()
	j.release()
	if j.manager != nil {
		j.manager.free = true
	}
	if s.stats.Finished == nil {
		s.stats.Finished = make(map[Status]int64)
	}
	s.stats.Finished[status]++
	if s.opts.OnFinish != nil {
		s.finished = append(s.finished, j.snapshot())
	}
	if s.opts.DiscardFinished {
		s.discard(j)
	}
	close(j.done)
	s.touched(j)
}

// discard drops what is big of a finished job, and the oldest results.
func (s *Server) discard(j *job) {
	j.spec = Job{Name: j.spec.Name, Stage: j.spec.Stage, PipelineID: j.spec.PipelineID, Relax: j.spec.Relax}
	j.trace, j.artifacts, j.sent, j.project = nil, nil, sentPayload{}, nil
	s.order = append(s.order, j.id)
	if len(s.order) > s.opts.KeepResults {
		delete(s.jobs, s.order[0])
		s.order = s.order[1:]
	}
}

// runCallbacks calls OnFinish for the jobs that ended, without locks.
func (s *Server) runCallbacks() {
	if s.opts.OnFinish == nil {
		return
	}
	s.mu.Lock()
	done := s.finished
	s.finished = nil
	s.mu.Unlock()
	for _, snap := range done {
		s.opts.OnFinish(snap)
	}
}

func (s *Server) ackTimedOut(j *job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if j.waiting {
		s.requeue(j)
	}
}

func (s *Server) contactTimedOut(j *job) {
	s.mu.Lock()
	if !j.final() && j.runner != nil {
		if rest := s.opts.ContactTimeout - s.now().Sub(j.lastContact); rest > 0 {
			j.contactTimer.Reset(rest)
		} else if j.status == Canceling {
			s.finish(j, Canceled, "no_updates_canceling")
		} else {
			s.finish(j, Failed, "no_updates_running")
		}
	}
	s.mu.Unlock()
	s.runCallbacks()
}

func (s *Server) serverTimeout(j *job) {
	s.mu.Lock()
	if !j.final() {
		if j.status == Canceling {
			s.finish(j, Canceled, "server_timeout_canceling")
		} else {
			s.finish(j, Failed, "server_timeout_running")
		}
	}
	s.mu.Unlock()
	s.runCallbacks()
}
