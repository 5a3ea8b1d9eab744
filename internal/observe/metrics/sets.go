package metrics

import (
	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/job"
)

// The closed sets of label values that more than one metric has.

// sets is the type of def.sets.
type sets = map[string][]string

// words returns values of any kind of string as label values.
func words[T ~string](all []T, more ...string) []string {
	out := make([]string, 0, len(all)+len(more))
	for _, v := range all {
		out = append(out, string(v))
	}
	return append(out, more...)
}

func modes() []string { return []string{modeTraditional, modeSteps, modeUnknown} }

func phases() []string {
	return words([]job.Phase{
		job.ResolveSecrets, job.PrepareExecutor, job.PrepareScript, job.GetSources, job.ClearWorktree, job.RestoreCache,
		job.DownloadArtifacts, job.AfterScript, job.ArchiveCache, job.ArchiveCacheFailed, job.UploadArtifacts, job.UploadArtifactsF,
		job.Cleanup,
	}, "step_script", "step_release", "step_run", "step_other", "concrete")
}

func processStates() []string {
	return []string{event.ProcessStarting, event.ProcessRunning, event.ProcessGracefulShutdown, event.ProcessForcefulShutdown}
}

func jobStates() []string {
	return append(words([]job.State{job.Pending, job.Running, job.Success, job.Failed, job.CanceledS, job.TimedOut, job.Terminated}), "", "idle")
}

func policies() []string { return []string{"always", "if-not-present", "never"} }

func endpoints() []string {
	return []string{"request_job", "update_job", "patch_trace", "reset_token", "discovery"}
}

func methods() []string { return []string{"get", "head", "post", "put", "patch", "delete"} }
