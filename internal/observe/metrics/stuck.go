package metrics

import (
	"time"

	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/observe/board"
)

// stuck is how long running jobs have been at what they are at: a pull that
// hangs is old in prepare_executor, a silent script is silent, a log that does
// not get away lags. None of it has a series for a job.
type stuck struct {
	oldest, silence, phaseAge, overdue *now
}

func newStuck(c *catalogue) stuck {
	return stuck{
		oldest: c.present("gauge", def{
			name: "glassrunner_oldest_running_job_seconds", help: "How long the oldest job that is running has been running.", labels: runnerLabels(), note: "0 without a job. Until the end of its cleanup.",
		}),
		silence: c.present("gauge", def{
			name: "glassrunner_job_output_silence_seconds_max", help: "Longest time that a script which is running has printed nothing.", labels: runnerLabels(),
			note: "Scripts are the steps of the user and after_script; other phases print when they please. 0 without one.",
		}),
		phaseAge: c.present("gauge", def{
			name: "glassrunner_job_phase_age_seconds_max", help: "Longest time that a running job has been in this phase.", sets: sets{"phase": phaseNames()}, labels: runnerLabels("phase"),
			values: phaseList(), note: "A series exists while a job is in the phase.",
		}),
		overdue: c.present("gauge", def{
			name: "glassrunner_jobs_overdue", help: "Jobs that have been running for longer than a multiple of what 95 % of the runner's last jobs took.", labels: runnerLabels(),
			note: "The multiple is overdue_factor in [runners.monitoring], 3 unless set; 0 until the runner has finished overdue_min_jobs jobs, 20 unless set, since the process started. The last 128 count.",
		}),
	}
}

func (s *stuck) all() []*now { return []*now{s.oldest, s.silence, s.phaseAge, s.overdue} }

// stuckNow is what is found of one runner.
type stuckNow struct {
	oldest, silence time.Duration
	overdue         int
	ages            map[string]time.Duration // nil: no phases
}

// add folds a job in.
func (n *stuckNow) add(j *board.Job, now time.Time, typical board.Typical) {
	if j.Ending {
		return // what it waits for now is the coordinator; the log's lag tells
	}
	n.oldest = max(n.oldest, now.Sub(j.Started))
	if typical.Overdue(j, now) {
		n.overdue++
	}
	if j.Phase == "" {
		return
	}
	name := phaseName(j.Phase)
	if n.ages == nil {
		n.ages = make(map[string]time.Duration, 2)
	}
	n.ages[name] = max(n.ages[name], now.Sub(j.PhaseSince))
	if name == phaseScript || name == string(job.AfterScript) {
		since := j.PhaseSince
		if j.LastOutput.After(since) {
			since = j.LastOutput
		}
		n.silence = max(n.silence, now.Sub(since))
	}
}

func (s *stuck) send(send send, n *stuckNow, l []string) {
	send(s.oldest, n.oldest.Seconds(), l...)
	send(s.silence, n.silence.Seconds(), l...)
	send(s.overdue, float64(n.overdue), l...)
	for name, age := range n.ages {
		send(s.phaseAge, age.Seconds(), l[0], l[1], l[2], name)
	}
}
