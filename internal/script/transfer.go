package script

import (
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/glassrunner/glassrunner/internal/job"
)

// Variables in the environment of one call of the helper.
const (
	// EnvCacheLinks holds the JSON of CacheLinks.
	EnvCacheLinks = "GLASSRUNNER_CACHE_LINKS"
	// EnvReport asks for a report on what was done: a line of the output that
	// begins with the variable's value and a space, and goes on in JSON.
	EnvReport = "GLASSRUNNER_REPORT"
)

// CacheLinks are the addresses of one cache, in EnvCacheLinks.
type CacheLinks struct {
	Primary   WireLink `json:"primary"`
	Alternate WireLink `json:"alternate,omitzero"`
}

// WireLink is a Link with its secrets in the open.
type WireLink struct {
	URL     string            `json:"url"`
	HeadURL string            `json:"head_url,omitempty"`
	Header  map[string]string `json:"header,omitempty"`
}

// Transfer settings of a runner entry.
type Transfer struct {
	UploadTimeout time.Duration // of one artifact; 0: the helper's default
	HeaderTimeout time.Duration
	MaxCacheSize  int64 // of an uploaded cache, in bytes; 0: no limit
	// MaxExtractedSize in bytes and MaxExtractionRatio bound what an archive
	// may become; 0: the helper's defaults.
	MaxExtractedSize, MaxExtractionRatio int64
	// ReportMark begins the lines with which the helper reports; "": none.
	ReportMark string
	// RunnerName and Executor are for the provenance of artifacts.
	RunnerName, Executor string
}

// action names a transfer as people know it.
func action(p job.Phase) string {
	switch p {
	case job.RestoreCache:
		return "Extracting cache"
	case job.DownloadArtifacts:
		return "Artifacts downloading"
	case job.ArchiveCache, job.ArchiveCacheFailed:
		return "Creating cache"
	default:
		return "Uploading artifacts"
	}
}

// transfer moves caches and artifacts. The helper does it, as the job's user
// and in the project's directory; addresses and tokens reach it in the
// environment of the one call that needs them.
func (j *Job) transfer(p job.Phase) (Script, error) {
	calls, err := j.calls(p)
	if err != nil || len(calls) == 0 {
		return Script{Skip: err == nil}, err
	}
	if j.Settings.Helper == "" {
		return Script{Notices: []string{warning(action(p) + " is not supported by this executor.")}}, nil
	}
	var s Script
	w := j.writer()
	j.exports(w, &s, true)
	w.cd(j.Dirs.Project)
	if j.debugTrace() {
		w.untrace() // what follows has addresses that open the storage
	}
	helper := w.lit(j.Settings.Helper)
	w.when(condition{words: []word{helper, "--version"}, quiet: true}, func() {
		for _, call := range calls {
			call(w)
		}
	}, func() { w.print(warning("Missing " + j.Settings.Helper + ". " + action(p) + " is disabled.")) })
	s.Text = w.bytes()
	return s, nil
}

// calls are the parts of a transfer, nil when there is none.
func (j *Job) calls(p job.Phase) ([]func(*writer), error) {
	var calls []func(*writer)
	failed := p == job.ArchiveCacheFailed || p == job.UploadArtifactsF
	switch p {
	case job.DownloadArtifacts:
		for _, d := range j.Spec.Dependencies {
			if d.Filename != "" {
				calls = append(calls, func(w *writer) { j.downloadArtifact(w, d) })
			}
		}
	case job.UploadArtifacts, job.UploadArtifactsF:
		for _, a := range j.Spec.Artifacts {
			if j.Settings.URL != "" && (len(a.Paths) > 0 || a.Untracked) && applies(a.When, failed) {
				calls = append(calls, func(w *writer) { j.uploadArtifact(w, a) })
			}
		}
	default:
		for _, c := range j.Spec.Caches {
			if !used(c) || p != job.RestoreCache && !applies(c.When, failed) {
				continue
			}
			push, pull, err := j.policy(c)
			switch {
			case err != nil:
				return nil, err
			case p == job.RestoreCache && pull:
				calls = append(calls, func(w *writer) { j.restore(w, c) })
			case p == job.RestoreCache:
				calls = append(calls, says("Not downloading cache "+j.cacheKey(c.Key).human+" due to policy"))
			case push:
				calls = append(calls, func(w *writer) { j.save(w, c) })
			default:
				calls = append(calls, says("Not uploading cache "+j.cacheKey(c.Key).human+" due to policy"))
			}
		}
	}
	return calls, nil
}

func says(text string) func(*writer) { return func(w *writer) { w.print(notice(text)) } }

// environment of every call.
func (j *Job) environment(more ...variable) []variable {
	if m := j.Settings.Transfer.ReportMark; m != "" {
		more = append(more, variable{EnvReport, m})
	}
	return more
}

// helper makes words of a call of the helper. Options without a value
// are left out.
func (j *Job) helper(w *writer, name string, options ...string) []word {
	words := []word{w.lit(j.Settings.Helper), word(name)}
	for pair := range slices.Chunk(options, 2) {
		if len(pair) == 2 && pair[1] != "" {
			words = append(words, word("--"+pair[0]), w.lit(pair[1]))
		}
	}
	return words
}

// rules are the options that say which files are meant. A value is joined to
// its option: it may begin with a dash.
func rules(w *writer, words []word, paths, exclude []string, untracked bool) []word {
	for _, p := range paths {
		words = append(words, w.lit("--path="+p))
	}
	for _, p := range exclude {
		words = append(words, w.lit("--exclude="+p))
	}
	if untracked {
		words = append(words, "--untracked")
	}
	return words
}

func (j *Job) uploadArtifact(w *writer, a job.Artifact) {
	w.print(notice("Uploading artifacts..."))
	t := j.Settings.Transfer
	words := j.helper(w, "artifacts-uploader",
		"id", j.Spec.ID.String(), "timeout", duration(t.UploadTimeout), "response-header-timeout", duration(t.HeaderTimeout),
		"expire-in", a.ExpireIn, "artifact-format", a.Format, "artifact-type", a.Type)
	if name := j.Variables.Expand(a.Name, j.filePath); name != "" {
		words = append(words, w.lit("--name="+name))
	}
	if on, _ := j.Variables.Bool("RUNNER_GENERATE_ARTIFACTS_METADATA", false); on && (a.Format == "" || a.Format == "zip") {
		words = append(words, j.provenance(w)...)
	}
	words = rules(w, words, a.Paths, a.Exclude, a.Untracked)
	w.runWith(j.environment(
		variable{"CI_SERVER_URL", j.Settings.URL}, variable{"CI_JOB_TOKEN", j.Spec.Token.Reveal()},
	), words...)
}

// provenance are the options for RUNNER_GENERATE_ARTIFACTS_METADATA.
func (j *Job) provenance(w *writer) []word {
	t := j.Settings.Transfer
	words := []word{"--generate-artifacts-metadata"}
	started := ""
	if !j.Spec.Received.IsZero() {
		started = j.Spec.Received.UTC().Format(time.RFC3339)
	}
	for _, o := range [][2]string{
		{"runner-id", j.Variables.Value("CI_RUNNER_ID")}, {"runner-name", t.RunnerName}, {"executor-name", t.Executor},
		{"repo-url", strings.TrimSuffix(j.Variables.Value("CI_PROJECT_URL"), "/")}, {"repo-digest", j.Spec.Git.SHA},
		{"job-name", j.Spec.Info.Name}, {"started-at", started},
		{"schema-version", j.Variables.Value("SLSA_PROVENANCE_SCHEMA_VERSION")},
	} {
		if o[1] != "" {
			words = append(words, w.lit("--"+o[0]+"="+o[1]))
		}
	}
	vs, _ := j.usable()
	for _, v := range vs {
		words = append(words, w.lit("--metadata-parameter="+v.Key))
	}
	return words
}

func (j *Job) downloadArtifact(w *writer, d job.Dependency) {
	w.print(notice(fmt.Sprintf("Downloading artifacts for %s (%s)...", d.Name, d.ID)))
	w.runWith(j.environment(
		variable{"CI_SERVER_URL", j.Settings.URL}, variable{"CI_JOB_TOKEN", d.Token.Reveal()},
	), j.helper(w, "artifacts-downloader", append(j.bounds(), "id", d.ID.String())...)...)
}

// restore looks for a cache under its keys until one of them has it.
func (j *Job) restore(w *writer, c job.Cache) { j.restoreNext(w, c, j.restoreKeys(c), false) }

func (j *Job) restoreNext(w *writer, c job.Cache, keys []cacheKey, fallback bool) {
	for len(keys) > 0 && keys[0].dir == "" {
		for _, text := range keys[0].warnings {
			w.print(warning("WARNING: " + text))
		}
		if !fallback {
			w.print(notice("Skipping cache extraction due to empty cache key"))
		}
		keys, fallback = keys[1:], true
	}
	if len(keys) == 0 {
		return
	}
	k := keys[0]
	for _, text := range k.warnings {
		w.print(warning("WARNING: " + text))
	}
	w.print(notice("Checking cache for " + k.human + "..."))
	words := j.helper(w, "cache-extractor", append(j.bounds(), "timeout", j.requestTimeout())...)
	words = append(words, "--file", w.path(j.archivePath(k.dir)))
	if fallback {
		words = append(words, "--fallback")
	}
	w.whenWith(j.environment(j.links(j.object(k, k.object, false), j.object(k, objectName(k.other), false))), words,
		func() { w.print(notice("Successfully extracted cache")) },
		func() {
			w.print(warning("Failed to extract cache"))
			if j.flag("FF_CLEAN_UP_FAILED_CACHE_EXTRACT") {
				j.removePaths(w, c.Paths)
			}
			j.restoreNext(w, c, keys[1:], true)
		})
}

// removePaths removes what a cache that could not be extracted may have left.
func (j *Job) removePaths(w *writer, paths []string) {
	for _, p := range paths {
		rel := path.Clean(j.Variables.Expand(p, j.filePath))
		if cut, ok := strings.CutPrefix(rel, path.Clean(j.Dirs.Project)+"/"); ok {
			rel = cut
		}
		if absolute(rel) || rel == "." || rel == ".." || strings.HasPrefix(rel, "../") || strings.ContainsAny(rel, "*?[{") {
			continue
		}
		w.print("Removing " + p)
		w.ops([]Op{{Kind: OpRemove, Path: path.Join(j.Dirs.Project, rel)}})
	}
}

// save stores a cache.
func (j *Job) save(w *writer, c job.Cache) {
	k := j.cacheKey(c.Key)
	for _, text := range k.warnings {
		w.print(warning("WARNING: " + text))
	}
	if k.dir == "" {
		w.print(notice("Skipping cache archiving due to empty cache key"))
		return
	}
	w.print(notice("Creating cache " + k.human + "..."))
	words := j.helper(w, "cache-archiver", "timeout", j.requestTimeout(), "max-uploaded-archive-size", number(j.Settings.Transfer.MaxCacheSize))
	words = append(words, "--file", w.path(j.archivePath(k.dir)), w.lit("--key="+k.human))
	if k.other != "" {
		words = append(words, "--alternate-file", w.path(j.archivePath(k.other)))
	}
	words = rules(w, words, c.Paths, nil, c.Untracked)
	w.whenWith(j.environment(j.links(j.object(k, k.object, true), CacheObject{})), words,
		func() { w.print(notice("Created cache")) },
		func() { w.print(warning("Failed to create cache")) })
}

// archivePath is where the archive of a cache is on disk.
func (j *Job) archivePath(key string) string { return path.Join(j.Dirs.Cache, key, "cache.zip") }

// links is EnvCacheLinks, empty when there is no storage: a job's own
// variable of that name must not count.
func (j *Job) links(primary, alternate CacheObject) variable {
	v := variable{key: EnvCacheLinks}
	l, ok := j.CacheLinks[primary]
	if !ok {
		return v
	}
	links := CacheLinks{Primary: wire(l)}
	if a, ok := j.CacheLinks[alternate]; ok {
		links.Alternate = wire(a)
	}
	text, err := json.Marshal(links)
	if err == nil { // strings always can be
		v.value = string(text)
	}
	return v
}

func wire(l Link) WireLink {
	return WireLink{URL: l.URL.Reveal(), HeadURL: l.HeadURL.Reveal(), Header: l.Header}
}

// requestTimeout is CACHE_REQUEST_TIMEOUT, in minutes.
func (j *Job) requestTimeout() string {
	if n, err := strconv.Atoi(j.Variables.Value("CACHE_REQUEST_TIMEOUT")); err == nil && n > 0 {
		return strconv.Itoa(n)
	}
	return "10"
}

// bounds are the options that limit what an archive may become.
func (j *Job) bounds() []string {
	return []string{
		"max-extracted-size", number(j.Settings.Transfer.MaxExtractedSize), "max-extraction-ratio", number(j.Settings.Transfer.MaxExtractionRatio),
	}
}

func number(n int64) string {
	if n <= 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

func duration(d time.Duration) string {
	if d <= 0 {
		return ""
	}
	return d.String()
}

// variable is one of the environment of a program.
type variable struct{ key, value string }

// assigned puts variables before the words of a command.
func (w *writer) assigned(env []variable, words []word) []word {
	out := make([]word, 0, len(env)+len(words))
	for _, v := range env {
		out = append(out, word(v.key+"="+quote(v.value)))
	}
	return append(out, words...)
}

func (w *writer) unset(env []variable) {
	for _, v := range env {
		w.line("Remove-Item -LiteralPath env:", v.key, " -ErrorAction SilentlyContinue")
	}
}

// runWith runs a program with more variables; its failure ends the script.
func (w *writer) runWith(env []variable, words ...word) {
	if !w.ps {
		w.run(w.assigned(env, words)...)
		return
	}
	for _, v := range env {
		w.export(v.key, w.lit(v.value))
	}
	w.run(words...)
	w.unset(env)
}

// whenWith runs a program with more variables, and then what fits its result.
func (w *writer) whenWith(env []variable, words []word, then, otherwise func()) {
	if !w.ps {
		w.when(condition{words: w.assigned(env, words)}, then, otherwise)
		return
	}
	for _, v := range env {
		w.export(v.key, w.lit(v.value))
	}
	w.when(condition{words: words}, func() { w.unset(env); then() }, func() { w.unset(env); otherwise() })
}

// untrace ends what trace began.
func (w *writer) untrace() {
	if w.ps {
		w.line("Set-PSDebug -Off")
		return
	}
	w.line("{ set +o xtrace; } 2>/dev/null")
}
