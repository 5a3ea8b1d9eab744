package helper

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/glassrunner/glassrunner/internal/archive"
	"github.com/glassrunner/glassrunner/internal/artifact"
	"github.com/glassrunner/glassrunner/internal/coordinator"
	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/version"
)

// server are the options that say which coordinator and whose job.
type server struct{ url, token, id, ca, cert, key string }

func (s *server) flags(f *pflag.FlagSet) {
	f.StringVar(&s.url, "url", "", "coordinator (CI_SERVER_URL)")
	f.StringVar(&s.token, "token", "", "token of the job (CI_JOB_TOKEN)")
	f.StringVar(&s.id, "id", "", "number of the job (CI_JOB_ID)")
	f.StringVar(&s.ca, "tls-ca-file", "", "certificates to trust (CI_SERVER_TLS_CA_FILE)")
	f.StringVar(&s.cert, "tls-cert-file", "", "client certificate (CI_SERVER_TLS_CERT_FILE)")
	f.StringVar(&s.key, "tls-key-file", "", "key of the client certificate (CI_SERVER_TLS_KEY_FILE)")
}

// connect returns the client of the job. It touches no network.
func (s *server) connect(t *task, f *pflag.FlagSet) (*coordinator.JobClient, job.ID, error) {
	environment(t, f, map[string]string{
		"url": "CI_SERVER_URL", "token": "CI_JOB_TOKEN", "id": "CI_JOB_ID", "tls-ca-file": "CI_SERVER_TLS_CA_FILE",
		"tls-cert-file": "CI_SERVER_TLS_CERT_FILE", "tls-key-file": "CI_SERVER_TLS_KEY_FILE",
	})
	id, err := strconv.ParseInt(s.id, 10, 64)
	switch {
	case err != nil:
		return nil, 0, fmt.Errorf("the number of the job is not known: --id %q", s.id)
	case s.token == "":
		return nil, 0, errors.New("the token of the job is not known")
	}
	c, err := coordinator.New(coordinator.Options{
		URL: s.url, TLSCAFile: s.ca, TLSCertFile: s.cert, TLSKeyFile: s.key, Info: coordinator.Info{Version: version.Get()},
	})
	if err != nil {
		return nil, 0, err
	}
	return c.Job(job.ID(id), job.Secret(s.token), false), job.ID(id), nil
}

// refusal tells package artifact of an answer.
func refusal(err error) error {
	var e *coordinator.Error
	if errors.As(err, &e) && e.Status > 0 {
		return &artifact.Refusal{Status: e.Status, Err: err}
	}
	return err
}

type sender struct{ j *coordinator.JobClient }

func (s sender) Upload(ctx context.Context, u artifact.Upload) error {
	return refusal(s.j.UploadArtifact(ctx, coordinator.ArtifactUpload(u)))
}

type source struct {
	j *coordinator.JobClient
	d job.Dependency
}

func (s source) Download(ctx context.Context, direct bool) (artifact.Content, error) {
	d, err := s.j.DownloadArtifact(ctx, s.d, direct)
	if err != nil {
		return artifact.Content{}, refusal(err)
	}
	return artifact.Content(*d), nil
}

// metadata are the options for the provenance of artifacts.
type metadata struct {
	on         bool
	p          artifact.Provenance
	started    string
	schema     string
	parameters []string
}

func (m *metadata) flags(f *pflag.FlagSet) {
	f.BoolVar(&m.on, "generate-artifacts-metadata", false, "add a statement about the build to the archive")
	f.StringVar(&m.p.RunnerID, "runner-id", "", "number of the runner")
	f.StringVar(&m.p.RunnerName, "runner-name", "", "name of the runner")
	f.StringVar(&m.p.Executor, "executor-name", "", "executor of the runner")
	f.StringVar(&m.p.RepoURL, "repo-url", "", "project")
	f.StringVar(&m.p.RepoDigest, "repo-digest", "", "commit")
	f.StringVar(&m.p.JobName, "job-name", "", "name of the job")
	f.StringVar(&m.started, "started-at", "", "when the job began (RFC 3339)")
	f.StringVar(&m.schema, "schema-version", "v1", "version of the statement; only v1 is known")
	f.StringArrayVar(&m.parameters, "metadata-parameter", nil, "name of a variable of the job")
}

// provenance is nil when it is not asked for.
func (m *metadata) provenance(t *task, id job.ID) *artifact.Provenance {
	if !m.on {
		return nil
	}
	if m.schema != "v1" {
		t.Warn(fmt.Sprintf("unknown SLSA_PROVENANCE_SCHEMA_VERSION %q, taking v1", m.schema))
	}
	v := version.Get()
	m.p.JobID, m.p.Parameters, m.p.Version, m.p.Architecture = id.String(), m.parameters, v.Version, runtime.GOARCH
	m.p.Started, _ = time.Parse(time.RFC3339, m.started)
	return &m.p
}

func uploader(w World) *cobra.Command {
	var s server
	var f files
	var m metadata
	var name, expire, format, kind string
	var timeout, header time.Duration
	cmd := &cobra.Command{Use: "artifacts-uploader", Short: "Send artifacts of a job to its coordinator"}
	flags := cmd.Flags()
	s.flags(flags)
	f.flags(flags)
	m.flags(flags)
	flags.StringVar(&name, "name", "artifacts", "name of the archive")
	flags.StringVar(&expire, "expire-in", "", "when the coordinator may remove it")
	flags.StringVar(&format, "artifact-format", "zip", "zip, gzip, raw, zipzstd or tarzstd")
	flags.StringVar(&kind, "artifact-type", "", "what it is: archive, junit …")
	flags.DurationVar(&timeout, "timeout", coordinator.DefaultTransferTimeout, "bound of one attempt")
	flags.DurationVar(&header, "response-header-timeout", coordinator.DefaultHeaderTimeout, "bound of the wait for an answer")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		t, err := w.start()
		if err != nil {
			return err
		}
		ctx, stop := interruptible(cmd.Context())
		defer stop()
		client, id, err := s.connect(t, flags)
		if err != nil {
			return t.fatal(err)
		}
		form, err := archive.ParseFormat(format)
		if err != nil {
			return t.fatal(err)
		}
		rules, err := f.rules(ctx, t)
		if err != nil {
			return t.fatal(err)
		}
		sum, err := artifact.Send(ctx, sender{client}, artifact.SendOptions{
			Dir: t.dir, Rules: rules, Name: name, Type: kind, ExpireIn: expire, Format: form, Level: t.level("ARTIFACT_COMPRESSION_LEVEL"),
			Workers: t.number("FASTZIP_ARCHIVER_CONCURRENCY"), ID: id, Timeout: timeout, HeaderTimeout: header,
			Provenance: m.provenance(t, id), Print: t,
		})
		t.report("artifact", "upload", string(sum.Result), sum.Bytes, sum.Took)
		if err != nil {
			return t.fatal(err)
		}
		return nil
	}
	return cmd
}

func downloader(w World) *cobra.Command {
	var s server
	var b bounds
	var staging string
	cmd := &cobra.Command{Use: "artifacts-downloader", Short: "Fetch and extract the artifacts of an earlier job"}
	flags := cmd.Flags()
	s.flags(flags)
	b.flags(flags)
	flags.StringVar(&staging, "staging-dir", "", "directory for the archive (ARCHIVER_STAGING_DIR)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		t, err := w.start()
		if err != nil {
			return err
		}
		ctx, stop := interruptible(cmd.Context())
		defer stop()
		client, id, err := s.connect(t, flags)
		if err != nil {
			return t.fatal(err)
		}
		environment(t, flags, map[string]string{"staging-dir": "ARCHIVER_STAGING_DIR"})
		d := job.Dependency{ID: id, Token: job.Secret(strings.TrimSpace(s.token))}
		var parallel artifact.Parallel
		if t.on("FF_USE_PARALLEL_ARTIFACT_TRANSFER", false) {
			parallel.Streams = artifact.DefaultStreams
		}
		sum, err := artifact.Receive(ctx, source{client, d}, artifact.ReceiveOptions{
			Dir: t.dir, Staging: staging, ID: id, Direct: t.on("FF_USE_DIRECT_DOWNLOAD", true),
			Workers: t.number("FASTZIP_EXTRACTOR_CONCURRENCY"), Parallel: parallel, Limits: b.limits(), Print: t,
		})
		t.report("artifact", "download", string(sum.Result), sum.Bytes, sum.Took)
		if err != nil {
			return t.fatal(err)
		}
		return nil
	}
	return cmd
}
