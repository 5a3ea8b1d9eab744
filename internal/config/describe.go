package config

import (
	"fmt"
	"io"
	"maps"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Describe writes what a configuration means, for check-config: the process,
// each runner with its effective values, and the problems. It shows no secret.
// cfg is nil when the file could not be read.
func Describe(w io.Writer, cfg *Config, report *Report) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n", report.Path, verdict(report))
	if cfg != nil {
		describeProcess(&b, cfg)
		for i := range cfg.Runners {
			describeRunner(&b, cfg, &cfg.Runners[i], i+1)
		}
	}
	if len(report.Problems) > 0 {
		b.WriteString("\nProblems\n")
		for _, p := range report.Problems {
			p.File = filepath.Base(p.File)
			fmt.Fprintf(&b, "  %s\n", p)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func verdict(report *Report) string {
	if report.Missing {
		return "there is no such file; nothing runs until a runner is registered"
	}
	failed, warnings := len(report.Errors()), len(report.Warnings())
	switch {
	case failed > 0:
		return fmt.Sprintf("not usable, %s and %s", count(failed, "error"), count(warnings, "warning"))
	case warnings > 0:
		return fmt.Sprintf("usable, %s", count(warnings, "warning"))
	default:
		return "no problems"
	}
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// row writes a name and a value; rows without a value are left out.
func row(b *strings.Builder, name, value string) {
	if value != "" {
		fmt.Fprintf(b, "  %-20s %s\n", name, value)
	}
}

func describeProcess(b *strings.Builder, c *Config) {
	b.WriteString("\nProcess\n")
	row(b, "jobs at once", strconv.Itoa(c.Concurrency()))
	row(b, "asks for jobs", "every "+brief(c.CheckInterval()))
	row(b, "log", c.Level()+" and above, format "+c.Format())
	switch address, err := Listen(c.ListenAddress); {
	case c.ListenAddress == "":
		row(b, "metrics server", "off, because there is no listen_address")
	case err != nil:
		row(b, "metrics server", "not usable, see below")
	default:
		row(b, "metrics server", address.String())
	}
	row(b, "traces", describeTracing(c.Tracing))
	row(b, "forced shutdown", "within "+brief(c.ShutdownTimeout()))
	if age := c.ConnectionMaxAge(); age > 0 {
		row(b, "new connections", "every "+brief(age))
	}
	row(b, "state", c.StateDir())
	row(b, "labels", pairs(c.Labels))
	row(b, "runners", strconv.Itoa(len(c.Runners)))
}

func describeRunner(b *strings.Builder, c *Config, r *Runner, number int) {
	fmt.Fprintf(b, "\nRunner %d", number)
	if r.Name != "" {
		fmt.Fprintf(b, ", %q", r.Name)
	}
	if r.Line > 0 {
		fmt.Fprintf(b, ", line %d", r.Line)
	}
	b.WriteString("\n")
	row(b, "GitLab", r.PublicURL())
	row(b, "token", describeToken(r))
	executor := r.Executor
	if r.Shell != "" {
		executor += " with " + r.Shell
	}
	if r.Executor != "" && !Implemented(r.Executor) {
		executor += " (not available: takes no jobs)"
	}
	row(b, "executor", executor)
	if r.Limit > 0 {
		row(b, "jobs at once", strconv.Itoa(min(r.Limit, c.Concurrency())))
	} else {
		row(b, "jobs at once", fmt.Sprintf("%d, no limit of its own", c.Concurrency()))
	}
	row(b, "requests at once", strconv.Itoa(r.RequestConcurrency()))
	row(b, "job log", fmt.Sprintf("at most %s", size(r.OutputLimit())))
	row(b, "when refused", fmt.Sprintf("pauses for %s after %s", brief(r.UnhealthyInterval()), count(r.UnhealthyLimit(), "refusal")))
	row(b, "silent jobs", "checked every "+brief(r.JobStatusInterval()))
	if r.Executor == "shell" || r.Executor == "custom" || r.Executor == "ssh" {
		row(b, "ending a job", fmt.Sprintf("SIGTERM, after %s SIGKILL", brief(r.GracefulKillTimeout())))
	}
	row(b, "builds", r.BuildsDir)
	row(b, "local caches", r.CacheDir)
	if r.Cache != nil {
		row(b, "shared caches", r.Cache.Type)
	}
	if n := len(r.Environment); n > 0 {
		row(b, "environment", count(n, "variable"))
	}
	row(b, "labels", pairs(r.Labels))
	row(b, "feature flags", Resolve(r.FeatureFlags, nil).Changed())
	if r.Monitoring != nil {
		for _, q := range r.Monitoring.JobQueuingDurations {
			row(b, "acceptable wait", describeQueuing(q))
		}
	}
}

func describeToken(r *Runner) string {
	if r.Token == "" {
		return "none: takes no jobs"
	}
	text := r.ShortToken() + "..., never expires"
	if !r.TokenExpiresAt.IsZero() {
		text = r.ShortToken() + "..., expires " + r.TokenExpiresAt.UTC().Format(time.DateTime) + " UTC"
	}
	return text
}

func describeQueuing(q QueuingDuration) string {
	text := brief(q.Threshold)
	if q.Threshold <= 0 {
		text = "anything"
	}
	zone := q.Timezone
	if zone == "" {
		zone = "local time"
	}
	text += fmt.Sprintf(" during %s (%s)", strings.Join(q.Periods, " or "), zone)
	if q.JobsRunningForProject != "" {
		text += " when the project's running jobs match " + q.JobsRunningForProject
	}
	return text
}

// safeURL returns an address without its credentials.
func safeURL(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return "not a URL"
	}
	u.User = nil
	u.RawQuery = ""
	return u.String()
}

// pairs returns a map as sorted name=value pairs.
func pairs(m map[string]string) string {
	out := make([]string, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, k+"="+m[k])
	}
	return strings.Join(out, ", ")
}

// brief returns a duration without the units that are zero.
func brief(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// size returns a number of bytes in the largest unit that divides it.
func size(n int64) string {
	units := []string{"bytes", "KiB", "MiB", "GiB", "TiB"}
	i := 0
	for n >= 1024 && n%1024 == 0 && i < len(units)-1 {
		n /= 1024
		i++
	}
	return fmt.Sprintf("%d %s", n, units[i])
}
