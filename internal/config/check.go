package config

import (
	"fmt"
	"maps"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"
)

// checker finds what is wrong with values of the right type.
type checker struct {
	*decoder
	cfg   *Config
	whole bool // the whole file was read, so what is absent is really absent
}

// add reports a problem with the key of a path; when the key is absent, at the
// header of the closest table around it. A value of the wrong type has been
// reported already.
func (c *checker) add(s Severity, p place, text string) {
	path := p.path
	if c.wrong[path] {
		return // That is the problem, and reported.
	}
	for {
		if offset, ok := c.at[path]; ok {
			c.report(s, offset, p.key, text)
			return
		}
		i := strings.LastIndexByte(path, '.')
		if i < 0 {
			c.problems = append(c.problems, Problem{Severity: s, Key: p.key, Text: text})
			return
		}
		path = path[:i]
	}
}

func (c *checker) check(opts Options) {
	root := place{}
	c.checkTags(reflect.ValueOf(c.cfg).Elem(), root)
	if p := root.child("concurrent"); c.given(p.path) && c.cfg.Concurrent < 1 {
		c.add(Error, p, fmt.Sprintf("found %d, want a whole number of at least 1", c.cfg.Concurrent))
	}
	c.notNegative(root.child("check_interval"), c.cfg.CheckIntervalSeconds, "3 seconds")
	c.notNegative(root.child("shutdown_timeout"), c.cfg.ShutdownTimeoutSeconds, "30 seconds")
	if c.cfg.ConnectionAge != nil && *c.cfg.ConnectionAge < 0 {
		c.add(Warning, root.child("connection_max_age"), "a negative age makes a new connection for every call")
	}
	if c.cfg.ListenAddress != "" && !opts.SkipListenAddress {
		if _, err := Listen(c.cfg.ListenAddress); err != nil {
			c.add(Error, root.child("listen_address"), strings.TrimPrefix(err.Error(), "listen address "))
		}
	}
	c.projects(root.child("monitoring").child("projects"))
	c.monitoring(root.child("monitoring"))
	c.labels(c.cfg.Labels, root.child("labels"))
	c.tracing(c.cfg.Tracing, root.child("tracing"))
	for i := range c.cfg.Runners {
		c.runner(&c.cfg.Runners[i], place{"runners", "runners"}.element(i))
	}
	c.duplicates()
	c.features()
}

// notNegative warns of a negative number that counts as absent.
func (c *checker) notNegative(p place, n int, instead string) {
	if n < 0 {
		c.add(Warning, p, fmt.Sprintf("found %d; it counts as absent, which means %s", n, instead))
	}
}

// checkTags compares values with the allowed tag of their field.
func (c *checker) checkTags(v reflect.Value, p place) {
	for _, f := range fieldsOf(v.Type()) {
		at := p.child(f.name)
		value := v.FieldByIndex(f.index)
		if value.Kind() == reflect.Pointer {
			if value.IsNil() {
				continue
			}
			value = value.Elem()
		}
		switch {
		case value.Kind() == reflect.Struct && value.Type() != typeTime():
			c.checkTags(value, at)
		case value.Kind() == reflect.Slice && value.Type().Elem().Kind() == reflect.Struct:
			for i := range value.Len() {
				c.checkTags(value.Index(i), at.element(i))
			}
		case len(f.allowed) == 0 || f.name == "executor":
		case value.Kind() == reflect.String:
			c.allowed(f, at, value.String())
		case value.Kind() == reflect.Slice:
			for i := range value.Len() {
				c.allowed(f, at.element(i), value.Index(i).String())
			}
		}
	}
}

// allowed reports a value that is none of those allowed. GitLab Runner refuses
// the file for the log settings only; the others fail jobs later.
func (c *checker) allowed(f structField, p place, value string) {
	if value == "" || slices.Contains(f.allowed, value) {
		return
	}
	severity := Warning
	switch p.key {
	case "log_level":
		if slices.Contains(f.allowed, strings.ToLower(value)) {
			return
		}
		severity = Error
	case "log_format", "tracing.protocol":
		severity = Error
	}
	text := fmt.Sprintf("found %s, want one of %s", quoteValue(value), strings.Join(f.allowed, ", "))
	if close := closest(value, f.allowed); close != "" {
		text += fmt.Sprintf("; did you mean %s?", close)
	}
	c.add(severity, p, text)
}

func (c *checker) runner(r *Runner, p place) {
	if c.whole {
		if r.Token == "" {
			c.add(Warning, p.child("token"), "missing, so this runner takes no jobs; register it or add its token")
		}
		if r.URL == "" {
			c.add(Warning, p.child("url"), "missing, so this runner takes no jobs; add the address of GitLab")
		}
	}
	c.address(r.URL, p.child("url"))
	c.address(r.CloneURL, p.child("clone_url"))
	c.executor(r, p.child("executor"))
	c.notNegative(p.child("limit"), r.Limit, "no limit")
	c.notNegative(p.child("output_limit"), r.OutputLimitKiB, "4096 KiB")
	c.notNegative(p.child("request_concurrency"), r.RequestLimit, "1")
	c.notNegative(p.child("unhealthy_requests_limit"), r.UnhealthyRequests, "3")
	c.notNegative(p.child("job_status_final_update_retry_limit"), r.FinalUpdateRetries, "10")
	for _, d := range []struct {
		name    string
		value   time.Duration
		instead string
	}{
		{"unhealthy_interval", r.UnhealthyPause, "60m"},
		{"job_status_interval", r.StatusInterval, "5s"},
		{"graceful_kill_timeout", r.KillTimeout, "10s"},
		{"prepare_timeout", r.PrepareTimeout, "the timeout of the job"},
		{"get_sources_timeout", r.GetSourcesTimeout, "the timeout of the job"},
	} {
		if d.value < 0 {
			c.add(Warning, p.child(d.name), fmt.Sprintf("found %s; it counts as absent, which means %s", d.value, d.instead))
		}
	}
	if c.cfg.Concurrency() < r.Limit {
		c.add(Warning, p.child("limit"), fmt.Sprintf("found %d, but concurrent allows only %d jobs over all runners", r.Limit, c.cfg.Concurrency()))
	}
	if c.cfg.Concurrency() < r.RequestLimit {
		c.add(Warning, p.child("request_concurrency"), fmt.Sprintf("found %d, but concurrent allows only %d jobs over all runners", r.RequestLimit, c.cfg.Concurrency()))
	}
	for i, e := range r.Environment {
		if name, _, ok := strings.Cut(e, "="); !ok || name == "" {
			c.add(Warning, p.child("environment").element(i), "an entry has not the form NAME=value")
		}
	}
	if (r.TLSCertFile == "") != (r.TLSKeyFile == "") {
		c.add(Warning, p.child("tls-cert-file"), "a client certificate needs both tls-cert-file and tls-key-file")
	}
	c.labels(r.Labels, p.child("labels"))
	if merged := c.cfg.MergedLabels(r); len(merged) > mostLabels {
		c.add(Error, p.child("labels"), fmt.Sprintf("%d labels together with the global ones, want at most %d", len(merged), mostLabels))
	}
	c.flags(r, p.child("feature_flags"))
	c.schedules(r, p)
}

// address checks an address of GitLab. Its text is not shown, because it may
// hold a password.
func (c *checker) address(text string, p place) {
	if text == "" {
		return
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		c.add(Warning, p, "not a URL, so it cannot be reached; want an address such as https://gitlab.example.com/")
	case p.key == "runners.clone_url" && u.Scheme != "":
	case u.Scheme != "http" && u.Scheme != "https":
		c.add(Warning, p, "the address does not begin with http:// or https://, so it cannot be reached")
	case u.Host == "":
		c.add(Warning, p, "the address has no host, so it cannot be reached")
	}
}

func (c *checker) executor(r *Runner, p place) {
	all := executors()
	has, known := all[r.Executor]
	former := formerExecutors()[r.Executor]
	names := strings.Join(slices.Sorted(maps.Keys(all)), ", ")
	switch {
	case r.Executor == "" && c.whole:
		c.add(Warning, p, "missing, so this runner takes no jobs; want one of "+names)
	case r.Executor == "" || has:
	case known:
		c.add(Warning, p, fmt.Sprintf("glassrunner does not have the executor %s yet, so this runner takes no jobs", r.Executor))
	case former != "":
		c.add(Warning, p, fmt.Sprintf("GitLab Runner removed the executor %s, so this runner takes no jobs; use %s", r.Executor, former))
	default:
		text := fmt.Sprintf("found %s, so this runner takes no jobs; want one of %s", quoteValue(r.Executor), names)
		if close := closest(r.Executor, slices.Sorted(maps.Keys(all))); close != "" {
			text += fmt.Sprintf("; did you mean %s?", close)
		}
		c.add(Warning, p, text)
	}
	if r.Executor == "custom" && c.whole && (r.Custom == nil || r.Custom.RunExec == "") {
		c.add(Warning, p, "the executor custom needs run_exec in [runners.custom]")
	}
}

// mostLabels is how many labels a runner may have, global ones included.
const mostLabels = 32

// labelText reports whether s has between least and most of the characters of
// labels. A regular expression with such counts is large, and every command
// would build it at its start.
func labelText(s string, least, most int) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '-', c == '_', c == '.':
		default:
			return false
		}
	}
	return len(s) >= least && len(s) <= most
}

func (c *checker) labels(labels map[string]string, p place) {
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		if !labelText(key, 3, 65) || key[0] == '-' || key[0] == '.' {
			c.add(Error, p.child(key), "not a label name: want 3 to 65 of the characters a-z, A-Z, 0-9, dot, underscore and hyphen, the first no dot or hyphen")
		}
		if !labelText(labels[key], 1, 256) {
			c.add(Error, p.child(key), fmt.Sprintf("found %s, want 1 to 256 of the characters a-z, A-Z, 0-9, dot, underscore and hyphen", quoteValue(labels[key])))
		}
	}
	if len(labels) > mostLabels && p.key == "labels" && len(c.cfg.Runners) == 0 {
		c.add(Error, p, fmt.Sprintf("%d labels, want at most %d", len(labels), mostLabels))
	}
}

func (c *checker) flags(r *Runner, p place) {
	for _, name := range slices.Sorted(maps.Keys(r.FeatureFlags)) {
		f, known := flagByName(name)
		at := p.child(name)
		switch {
		case !known:
			text := "unknown feature flag, ignored"
			var all []string
			for _, f := range allFlags() {
				all = append(all, string(f.Name))
			}
			if close := closest(name, all); close != "" {
				text += "; did you mean " + close + "?"
			}
			c.add(Warning, at, text)
		case f.Status == Ignored && r.FeatureFlags[name] != f.Default && Implemented(r.Executor):
			c.add(Warning, at, "this feature flag has no effect in glassrunner")
		}
	}
}

// schedules checks everything that depends on the time.
func (c *checker) schedules(r *Runner, p place) {
	if m := r.Machine; m != nil {
		at := p.child("machine")
		for i, s := range m.Autoscaling {
			entry := at.child("autoscaling").element(i)
			c.cron(s.Periods, entry.child("Periods"), true)
			c.zone(s.Timezone, entry.child("Timezone"))
		}
		if m.MachineName != "" && !strings.Contains(m.MachineName, "%s") {
			c.add(Warning, at.child("MachineName"), "the name has no %s, which stands for a unique part; machines cannot be created")
		}
		for i, o := range m.MachineOptionsWithName {
			if !strings.Contains(o, "%s") {
				c.add(Error, at.child("MachineOptionsWithName").element(i), "an option has no %s, which stands for the name of the machine")
			}
		}
	}
	if r.Autoscaler != nil {
		c.policies(r.Autoscaler.Policy, p.child("autoscaler").child("policy"))
	}
	if r.Kubernetes != nil && r.Kubernetes.Autoscaler != nil {
		c.policies(r.Kubernetes.Autoscaler.Policy, p.child("kubernetes").child("autoscaler").child("policy"))
	}
	if r.Monitoring != nil {
		c.price(r, p.child("monitoring"))
		at := p.child("monitoring").child("job_queuing_durations")
		for i, q := range r.Monitoring.JobQueuingDurations {
			c.queuing(q, at.element(i))
		}
	}
}

func (c *checker) policies(policies []ScalingPolicy, p place) {
	for i, policy := range policies {
		c.cron(policy.Periods, p.element(i).child("periods"), false)
		c.zone(policy.Timezone, p.element(i).child("timezone"))
	}
}

func (c *checker) queuing(q QueuingDuration, p place) {
	c.cron(q.Periods, p.child("periods"), true)
	if len(q.Periods) == 0 && c.whole {
		c.add(Warning, p.child("periods"), `missing, so the entry never applies; "* * * * * * *" means always`)
	}
	c.zone(q.Timezone, p.child("timezone"))
	if _, err := regexp.Compile(q.JobsRunningForProject); err != nil {
		c.add(Error, p.child("jobs_running_for_project"), fmt.Sprintf("found %s, want a regular expression: %s", quoteValue(q.JobsRunningForProject), strings.TrimPrefix(err.Error(), "error parsing regexp: ")))
	}
	if q.Threshold <= 0 {
		c.add(Warning, p.child("threshold"), "the threshold is not above 0, so the entry does nothing")
	}
}

// cron checks cron expressions. Where they are periods, those that do not
// cover every second apply for one second a minute only.
func (c *checker) cron(expressions []string, p place, periods bool) {
	for i, text := range expressions {
		at := p.element(i)
		switch _, err := parseCron(text); {
		case err != nil:
			c.add(Error, at, fmt.Sprintf("found %s, want a cron expression of 5 to 7 fields: %v", quoteValue(text), err))
		case len(strings.Fields(text)) > 7:
			c.add(Warning, at, "the fields after the seventh are ignored")
		case periods && !everySecond(text):
			c.add(Warning, at, fmt.Sprintf("%s covers single seconds only; a period has seven fields with * for the second: second minute hour day month weekday year", quoteValue(text)))
		}
	}
}

func (c *checker) zone(name string, p place) {
	if _, err := location(name); err != nil {
		c.add(Error, p, fmt.Sprintf("found %s, want a time zone of the tz database, such as UTC or Europe/Berlin", quoteValue(name)))
	}
}

// duplicates warns of runners that cannot be told apart.
func (c *checker) duplicates() {
	tokens := make(map[string]int)
	identities := make(map[[2]string]int)
	for i := range c.cfg.Runners {
		r := &c.cfg.Runners[i]
		if r.Token == "" {
			continue
		}
		p := place{"runners", "runners"}.element(i).child("token")
		identity := [2]string{r.ShortToken(), r.Name}
		if first, ok := tokens[r.Token.Reveal()]; ok {
			c.add(Warning, p, fmt.Sprintf("the same token as in the entry on line %d; both share one limit and look like one runner to GitLab", c.cfg.Runners[first].Line))
		} else if first, ok := identities[identity]; ok {
			c.add(Warning, p, fmt.Sprintf("the entry on line %d has the same name and a token that begins alike; metrics cannot tell them apart, so give them different names", c.cfg.Runners[first].Line))
		}
		if _, ok := tokens[r.Token.Reveal()]; !ok {
			tokens[r.Token.Reveal()] = i
		}
		if _, ok := identities[identity]; !ok {
			identities[identity] = i
		}
	}
}

// features warns once for each key whose feature does not exist yet.
func (c *checker) features() {
	for _, f := range notYet() {
		text := "no effect: glassrunner does not implement " + f.what + " yet"
		if !strings.HasPrefix(f.path, "runners.") {
			if f.used(c.cfg, nil) {
				c.add(Warning, place{f.path, f.path}, text)
			}
			continue
		}
		for i := range c.cfg.Runners {
			if f.used(c.cfg, &c.cfg.Runners[i]) {
				p := place{"runners", "runners"}.element(i)
				for name := range strings.SplitSeq(strings.TrimPrefix(f.path, "runners."), ".") {
					p = p.child(name)
				}
				c.add(Warning, p, text)
				break
			}
		}
	}
}
