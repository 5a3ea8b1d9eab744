package artifact

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/glassrunner/glassrunner/internal/archive"
)

// Provenance is what is known of how artifacts came to be, for an in-toto
// statement with a SLSA provenance v1 predicate.
type Provenance struct {
	RunnerID, RunnerName, Executor, Architecture string
	RepoURL, RepoDigest                          string // without credentials; the commit
	JobID, JobName                               string
	Version                                      string // of this program
	Started                                      time.Time
	Parameters                                   []string // names of the job's variables
}

type digest map[string]string

type statement struct {
	Type          string    `json:"_type"`
	Subject       []subject `json:"subject"`
	PredicateType string    `json:"predicateType"`
	Predicate     predicate `json:"predicate"`
}

type subject struct {
	Name   string `json:"name"`
	Digest digest `json:"digest"`
}

type predicate struct {
	BuildDefinition buildDefinition `json:"buildDefinition"`
	RunDetails      runDetails      `json:"runDetails"`
}

type buildDefinition struct {
	BuildType            string            `json:"buildType"`
	ExternalParameters   map[string]string `json:"externalParameters"`
	InternalParameters   map[string]string `json:"internalParameters"`
	ResolvedDependencies []dependency      `json:"resolvedDependencies"`
}

type dependency struct {
	URI    string `json:"uri"`
	Digest digest `json:"digest"`
}

type runDetails struct {
	Builder struct {
		ID      string            `json:"id"`
		Version map[string]string `json:"version"`
	} `json:"builder"`
	Metadata struct {
		InvocationID string    `json:"invocationID"`
		StartedOn    time.Time `json:"startedOn"`
		FinishedOn   time.Time `json:"finishedOn"`
	} `json:"metadata"`
}

// statement describes files of dir.
func (p *Provenance) statement(ctx context.Context, dir string, files []archive.File, now time.Time) ([]byte, error) {
	s := statement{
		Type: "https://in-toto.io/Statement/v0.1", PredicateType: "https://slsa.dev/provenance/v1", Subject: []subject{},
		Predicate: predicate{BuildDefinition: buildDefinition{
			BuildType:          "https://gitlab.com/gitlab-org/gitlab-runner/-/blob/main/PROVENANCE.md",
			ExternalParameters: map[string]string{"entryPoint": p.JobName, "source": p.RepoURL},
			InternalParameters: map[string]string{
				"name": p.RunnerName, "executor": p.Executor, "architecture": p.Architecture, "job": p.JobID,
			},
			ResolvedDependencies: []dependency{{p.RepoURL, digest{"sha256": p.RepoDigest}}},
		}},
	}
	for _, name := range p.Parameters {
		if _, taken := s.Predicate.BuildDefinition.ExternalParameters[name]; !taken {
			s.Predicate.BuildDefinition.ExternalParameters[name] = ""
		}
	}
	run := &s.Predicate.RunDetails
	run.Builder.ID = p.RepoURL + "/-/runners/" + p.RunnerID
	run.Builder.Version = map[string]string{"glassrunner": p.Version}
	run.Metadata.InvocationID, run.Metadata.StartedOn, run.Metadata.FinishedOn = p.JobID, p.Started.UTC(), now.UTC()
	for _, f := range files {
		if !f.Info.Mode().IsRegular() {
			continue
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		sum, err := sum(filepath.Join(dir, filepath.FromSlash(f.Path)))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		s.Subject = append(s.Subject, subject{f.Path, digest{"sha256": sum}})
	}
	return json.MarshalIndent(s, "", " ")
}

func sum(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	_, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), errors.Join(err, f.Close())
}
