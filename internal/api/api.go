// Package api holds the types of the JSON API below /api/v1/, for who serves
// it, for `glassrunner top`, and for anybody's client. Times are RFC 3339, in
// UTC; durations are seconds; what is not known is null or absent. Fields may
// be added within v1, none changes its meaning. Nothing here ever holds a
// secret: errors are masked before they become known to it.
package api

import "time"

// Status is the answer of /api/v1/status: the process.
type Status struct {
	Version    string    `json:"version"`
	SystemID   string    `json:"system_id"`
	State      string    `json:"state"` // starting, running, graceful-shutdown or forceful-shutdown
	StateSince time.Time `json:"state_since"`
	Draining   bool      `json:"draining"` // no more jobs are taken
	Started    time.Time `json:"started"`
	Now        time.Time `json:"now"` // by the clock that every other time is of
	Slots      Slots     `json:"slots"`
	Config     Config    `json:"config"`
	Jobs       int       `json:"jobs"`               // that run
	Machines   []Machine `json:"machines,omitempty"` // on demand, by state; absent without autoscaling
	Links      []Link    `json:"links"`              // what else this server shows
	LogTail    bool      `json:"log_tail"`           // ends of running jobs' logs can be asked for
}

// Slots is how many jobs may run at once and what the slots are at.
type Slots struct {
	Total      int `json:"total"`
	Running    int `json:"running"`
	Requesting int `json:"requesting"` // asking for a job
	Idle       int `json:"idle"`
}

// Config is the configuration in force and what became of the last reload.
type Config struct {
	Path        string     `json:"path"`
	Hash        string     `json:"hash"` // SHA-256 of the file
	Generation  int        `json:"generation"`
	Concurrent  int        `json:"concurrent"`
	Warnings    int        `json:"warnings"`
	LastSuccess *time.Time `json:"last_success"`
	LastTry     *time.Time `json:"last_try"`
	LastError   string     `json:"last_error,omitempty"` // of the last try; absent when it succeeded
}

// Machine counts machines on demand that are in one state.
type Machine struct {
	State string `json:"state"`
	Count int    `json:"count"`
}

// Link is another page of this server.
type Link struct {
	Name string `json:"name"`
	Path string `json:"path"`
}

// Runner is an entry of the configuration. Entries that cannot be told apart
// are one, their limits added up.
type Runner struct {
	Runner             string     `json:"runner"` // short token, as in the label of metrics
	Name               string     `json:"name"`
	Executor           string     `json:"executor"`
	URL                string     `json:"url"`     // of the coordinator, without credentials
	Entries            int        `json:"entries"` // 0: it was removed and finishes its jobs
	Limit              int        `json:"limit"`   // of jobs at once; 0: unlimited
	RequestConcurrency int        `json:"request_concurrency"`
	Running            int        `json:"running"`  // jobs
	Requests           int        `json:"requests"` // for a job, under way
	Healthy            bool       `json:"healthy"`  // the coordinator accepts it, as far as the last request told
	Failures           int        `json:"failures"` // requests that were refused or failed, in a row
	DisabledUntil      *time.Time `json:"disabled_until"`
	Blocked            string     `json:"blocked,omitempty"` // why it asks for no job now, as the reasons of glassrunner_capacity_blocked_seconds_total
	LastPoll           *time.Time `json:"last_poll"`
	LastPollResult     string     `json:"last_poll_result,omitempty"` // job, none, forbidden or failed
	LastSuccess        *time.Time `json:"last_success"`               // of a poll
	LastJob            *time.Time `json:"last_job"`                   // was received
}

// Job is a job that runs.
type Job struct {
	Run           uint64     `json:"run"` // unique in this process; a coordinator may hand out an id twice
	ID            int64      `json:"id"`
	Runner        string     `json:"runner"`
	RunnerName    string     `json:"runner_name"`
	Executor      string     `json:"executor"`
	Name          string     `json:"name"`
	JobStage      string     `json:"job_stage"` // of its pipeline
	Project       string     `json:"project"`   // full path
	ProjectID     int64      `json:"project_id"`
	PipelineID    int64      `json:"pipeline_id"`
	URL           string     `json:"url"`   // of its page, without credentials
	State         string     `json:"state"` // pending, running, …; "" until it is told
	Stage         string     `json:"stage"` // phase that runs, or the last one that began
	StageSince    time.Time  `json:"stage_since"`
	ExecutorStage string     `json:"executor_stage,omitempty"`
	Started       time.Time  `json:"started"`
	Queued        float64    `json:"queued_seconds"`
	Timeout       float64    `json:"timeout_seconds"`
	LastOutput    *time.Time `json:"last_output"`
	LogBytes      int64      `json:"log_bytes"`        // written
	LogUnsent     int64      `json:"log_unsent_bytes"` // of these, that the coordinator does not have
	UnsentSince   *time.Time `json:"log_unsent_since"`
	SendFailures  int        `json:"log_send_failures"` // since something was sent
	Directive     string     `json:"directive,omitempty"`
	Ending        bool       `json:"ending"` // scripts and cleanup are over, the result is being delivered
	CPU           *float64   `json:"cpu_seconds"`
	Memory        *int64     `json:"memory_bytes"`
}

// Phase is a stretch of a job that ended.
type Phase struct {
	Phase  string    `json:"phase"`
	Start  time.Time `json:"start"`
	Took   float64   `json:"seconds"`
	Failed bool      `json:"failed"`
	Error  string    `json:"error,omitempty"`
}

// Finished is a job that ended or was refused.
type Finished struct {
	Job
	Ended    time.Time `json:"ended"`
	Took     float64   `json:"seconds"` // from start to the end of cleanup
	Result   string    `json:"result"`  // success, failed, canceled or refused
	Reason   string    `json:"reason,omitempty"`
	ExitCode int       `json:"exit_code"`
	Error    string    `json:"error,omitempty"`
	Delivery float64   `json:"delivery_seconds"` // of the result to the coordinator
	Lost     bool      `json:"lost"`             // the result could not be delivered
	Timeline []Phase   `json:"timeline"`
}

// The results of finished jobs.
const (
	Success  = "success"
	Failed   = "failed"
	Canceled = "canceled"
	Refused  = "refused"
)

// Detail is the answer of /api/v1/jobs/{run}: one of the two.
type Detail struct {
	Running  *Job      `json:"running,omitempty"`
	Timeline []Phase   `json:"timeline,omitempty"` // so far, of a running job
	Finished *Finished `json:"finished,omitempty"`
}

// History is the answer of /api/v1/history: one value a step in every list,
// null where nothing is known.
type History struct {
	Start time.Time `json:"start"`        // of the first step
	Step  float64   `json:"step_seconds"` // how much time one value is for
	// Highest value of the step.
	Running []*int     `json:"jobs_running"`
	Lag     []*float64 `json:"log_lag_seconds"`
	Slots   []*int     `json:"slots"`
	// Jobs that ended in the step.
	Succeeded []*uint32 `json:"jobs_succeeded"`
	Failed    []*uint32 `json:"jobs_failed"`  // by their scripts
	Errored   []*uint32 `json:"jobs_errored"` // for any other reason: the runner, an image, a time limit
	Canceled  []*uint32 `json:"jobs_canceled"`
	// Jobs that began in the step.
	WaitMedian []*float64 `json:"queue_wait_p50_seconds"`
	WaitP95    []*float64 `json:"queue_wait_p95_seconds"`
	// Requests to the coordinator that ended in the step. The duration leaves
	// out requests for jobs, which wait on purpose, and those that failed.
	Requests      []*uint32  `json:"requests"`
	RequestErrors []*uint32  `json:"request_errors"`
	LatencyMedian []*float64 `json:"request_p50_seconds"`
	LatencyP95    []*float64 `json:"request_p95_seconds"`
}

// Snapshot is the event "snapshot", the first one of a stream: everything.
type Snapshot struct {
	Status   Status     `json:"status"`
	Runners  []Runner   `json:"runners"`
	Jobs     []Job      `json:"jobs"`     // oldest first
	Finished []Finished `json:"finished"` // oldest first
}

// Delta is the event "delta": what has changed since the event before. What is
// absent is as it was.
type Delta struct {
	Status   *Status    `json:"status,omitempty"`
	Runners  []Runner   `json:"runners,omitempty"`  // all of them, when one has changed
	Jobs     []Job      `json:"jobs,omitempty"`     // that began or changed
	Gone     []uint64   `json:"gone,omitempty"`     // runs of jobs that run no more
	Finished []Finished `json:"finished,omitempty"` // that ended
}

// Error is the answer to a request that cannot be answered.
type Error struct {
	Error string `json:"error"`
}
