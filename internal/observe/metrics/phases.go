package metrics

import (
	"slices"
	"strings"

	"github.com/glassrunner/glassrunner/internal/job"
)

// phaseNames are the values of our label phase, in the order in which a job
// meets them. They are fewer than there are phases: what happens instead of
// another, or again, counts to that, so that one runner's phases are sixty
// lines of a scrape and not a hundred and fifty.
func phaseNames() []string {
	return []string{
		string(job.ResolveSecrets), string(job.PrepareExecutor), string(job.PrepareScript), string(job.GetSources),
		string(job.RestoreCache), string(job.DownloadArtifacts), phaseScript, string(job.AfterScript),
		string(job.ArchiveCache), phaseUpload, string(job.Cleanup), string(job.CleanupExecutor),
	}
}

const (
	phaseScript = "step_script"
	phaseUpload = "upload_artifacts"
)

// phaseName bounds a phase to these. The names of steps come from the
// coordinator.
func phaseName(p job.Phase) string {
	switch p { //nolint:exhaustive // the others are themselves
	case job.ClearWorktree:
		return string(job.GetSources)
	case job.ArchiveCacheFailed:
		return string(job.ArchiveCache)
	case job.UploadArtifacts, job.UploadArtifactsF:
		return phaseUpload
	}
	if slices.Contains(phaseNames(), string(p)) {
		return string(p)
	}
	return phaseScript
}

const phaseValues = "get_sources has repeated fetches, step_script every step of the user's but after_script, archive_cache and upload_artifacts those on failure"

func phaseList() string { return "phase: " + strings.Join(phaseNames(), ", ") + "; " + phaseValues }
