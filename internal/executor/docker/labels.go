package docker

import (
	"maps"
	"strconv"
)

// Labels of what a job makes.
const (
	// labelPrefix is GitLab Runner's, so that what people wrote against its
	// containers goes on working.
	labelPrefix = "com.gitlab.gitlab-runner."
	// runLabel names the run that something is removed with.
	runLabel = "glassrunner.run"
	// ownerLabel names the state directory of the runner that made something.
	ownerLabel = "glassrunner.owner"
)

// labels are those of an object of a kind: "build", "service" … What lives
// longer than the job has no run.
func (p *place) labels(kind string, lasting bool, more map[string]string) map[string]string {
	s := p.r.Spec
	l := map[string]string{}
	for k, v := range p.c.ContainerLabels {
		l[k] = p.expand(v)
		if kind == "service" {
			l[labelPrefix+k] = p.expand(v)
		}
	}
	for k, v := range map[string]string{
		"job.id":            s.ID.String(),
		"job.url":           p.r.Variables.Value("CI_JOB_URL"),
		"job.sha":           s.Git.SHA,
		"job.before_sha":    s.Git.BeforeSHA,
		"job.ref":           s.Git.Ref,
		"job.timeout":       s.Timeout.String(),
		"project.id":        strconv.FormatInt(s.Info.ProjectID, 10),
		"project.runner_id": strconv.Itoa(p.r.ConcurrentProject),
		"pipeline.id":       strconv.FormatInt(s.Info.PipelineID, 10),
		"runner.id":         p.r.Runner.Short,
		"runner.local_id":   strconv.Itoa(p.r.Concurrent),
		"runner.system_id":  p.r.Runner.SystemID,
		"managed":           "true",
		"type":              kind,
	} {
		l[labelPrefix+k] = v
	}
	for k, v := range more {
		l[labelPrefix+k] = v
	}
	if !lasting {
		maps.Copy(l, map[string]string{runLabel: p.run, ownerLabel: p.d.o.Owner})
	}
	return l
}
