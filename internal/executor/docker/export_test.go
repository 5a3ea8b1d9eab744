package docker

import (
	"bytes"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/glassrunner/glassrunner/internal/config"
	"github.com/glassrunner/glassrunner/internal/executor"
	"github.com/glassrunner/glassrunner/internal/job"
)

// Helpers for tests of what has no effect that can be seen from outside.
var (
	Hostname  = hostname
	Platform  = parsePlatform
	PullDelay = pullDelay
)

// SetPullDelay makes d wait that long until it asks a registry again.
func SetPullDelay(d *Driver, t time.Duration) { d.delay = func() time.Duration { return t } }

// ParseVolume is parseVolume.
func ParseVolume(v string) (source, target, opts string, err error) {
	m, err := parseVolume(v)
	return m.source, m.target, m.opts, err
}

// GPUs reads a setting.
func GPUs(text string) ([]container.DeviceRequest, error) {
	var r reader
	g := r.gpus("gpus", text)
	return g, r.err
}

// Binds plans the volumes of a job.
func Binds(o Options, r executor.Request) ([]string, error) {
	d, err := New(o)
	if err != nil {
		return nil, err
	}
	p := newPlace(d, r)
	if err := p.volumes.plan(); err != nil {
		return nil, err
	}
	return p.volumes.binds(), nil
}

// Policies chooses pull policies.
func Policies(c config.Docker, wanted []string) ([]string, error) {
	d, err := New(Options{Config: c})
	if err != nil {
		return nil, err
	}
	list, err := newPlace(d, executor.Request{Spec: &job.Spec{}}).policies("image", wanted)
	var out []string
	for _, p := range list {
		out = append(out, string(p))
	}
	return out, err
}

// Marked passes chunks of a stream through to the mark, and returns what came
// before it and the exit code; ok: the mark came.
func Marked(mark string, chunks [][]byte) (out string, code int, ok bool) {
	var b bytes.Buffer
	var s stream
	s.expect(mark, &b, func(n int) { code, ok = n, true })
	for _, c := range chunks {
		_, _ = s.Write(bytes.Clone(c)) // it never fails
	}
	return b.String(), code, ok
}
