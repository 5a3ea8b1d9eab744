package app

import (
	"github.com/glassrunner/glassrunner/internal/build"
	"github.com/glassrunner/glassrunner/internal/cache/presign"
	"github.com/glassrunner/glassrunner/internal/config"
	"github.com/glassrunner/glassrunner/internal/job"
)

// transfers sets what a runner entry says of artifacts and caches. A storage
// that cannot be used is no reason to do without the runner: caches then stay
// on the jobs' machine.
func (a *App) transfers(o *build.Options, r *config.Runner, who job.Runner) {
	o.UploadTimeout, o.UploadHeaderTimeout = r.ArtifactTimeouts()
	if r.Artifact != nil {
		o.MaxExtractedSize, o.MaxExtractionRatio = r.Artifact.MaxExtractedSize, r.Artifact.MaxExtractionRatio
	}
	if r.Cache == nil {
		return
	}
	o.MaxCacheSize = r.Cache.MaxUploadedArchiveSize
	store, err := presign.New(r.Cache, who.Short, a.bus)
	switch {
	case err != nil:
		a.log.Error("The storage of caches cannot be used, caches stay on this machine", "runner", who.Short, "error", err)
	case store != nil:
		o.Caches = store
	}
}
