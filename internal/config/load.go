package config

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"reflect"
	"slices"

	"github.com/glassrunner/glassrunner/internal/job"
)

// largestFile is the size in bytes above which a file is no configuration.
const largestFile = 4 << 20

// Options change how [Load] reads a file.
type Options struct {
	// LookupEnv returns a variable of the environment; os.LookupEnv when nil.
	LookupEnv func(name string) (string, bool)
	// SkipListenAddress leaves listen_address unchecked, for when a flag
	// replaces it.
	SkipListenAddress bool
}

// Load reads and checks the file. A file that does not exist is an empty
// configuration.
//
// The report holds all problems in the order of the file. When there are
// errors among them, the error is an [*InvalidError] with these, and the
// configuration holds what could be read, for [Describe] only. When the file
// cannot be read, the configuration is nil.
func Load(path string, opts Options) (*Config, *Report, error) {
	report := &Report{Path: path}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		report.Missing = true
		cfg := &Config{Path: path, Hash: hash(nil)}
		return cfg, report, nil
	}
	if err != nil {
		return nil, report, fmt.Errorf("reading the configuration: %w", err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, report, fmt.Errorf("reading the configuration: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, report, fmt.Errorf("reading the configuration: %s is not a regular file", path)
	}
	data, err := io.ReadAll(io.LimitReader(f, largestFile+1))
	if err != nil {
		return nil, report, fmt.Errorf("reading the configuration: %w", err)
	}
	if len(data) > largestFile {
		return nil, report, fmt.Errorf("reading the configuration: %s is larger than %d MiB", path, largestFile>>20)
	}
	cfg, report, err := Parse(path, data, opts)
	cfg.ModTime = info.ModTime()
	return cfg, report, err
}

// Parse is [Load] for content that is in memory already. The path is for
// messages and for the directories that depend on it.
func Parse(path string, data []byte, opts Options) (*Config, *Report, error) {
	if opts.LookupEnv == nil {
		opts.LookupEnv = os.LookupEnv
	}
	cfg := &Config{Path: path, Hash: hash(data)}
	doc := parseDocument(data)
	d := &decoder{doc: doc, at: make(map[string]int), wrong: make(map[string]bool)}
	d.table(doc.root, reflect.ValueOf(cfg).Elem(), place{}, nil)
	if list := listOf(doc.root, "runners"); list != nil {
		for i := range cfg.Runners {
			cfg.Runners[i].Line = doc.line(list.elements[i].start)
		}
	}
	d.expandRunners(cfg, opts.LookupEnv)
	if dsn, ok := opts.LookupEnv("SENTRY_DSN"); ok && !d.given("sentry_dsn") {
		cfg.SentryDSN = job.Secret(dsn)
	}
	c := &checker{decoder: d, cfg: cfg, whole: len(doc.problems) == 0}
	c.check(opts)

	report := &Report{Path: path, Problems: append(doc.problems, d.problems...)}
	if s := doc.strictly; s != nil && !slices.ContainsFunc(report.Problems, func(p Problem) bool { return p.Severity == Error && p.Line == s.Line }) {
		report.Problems = append(report.Problems, *s)
	}
	for i := range report.Problems {
		report.Problems[i].File = path
	}
	report.sort()
	if failed := report.Errors(); len(failed) > 0 {
		return cfg, report, &InvalidError{Problems: failed}
	}
	return cfg, report, nil
}

// listOf returns the list of tables with the name, in any case.
func listOf(table *node, name string) *node {
	fields := []structField{{name: name}}
	var found *node
	for _, e := range table.entries {
		if findField(fields, e.name) == 0 && (found == nil || e.name == name) && e.value.kind == kindArray {
			found = e.value
		}
	}
	return found
}

// given says whether the file has the key.
func (d *decoder) given(path string) bool {
	_, ok := d.at[path]
	return ok
}

// expandRunners replaces variables of the environment in addresses and tokens.
func (d *decoder) expandRunners(cfg *Config, lookup func(string) (string, bool)) {
	for i := range cfg.Runners {
		r := &cfg.Runners[i]
		p := place{"runners", "runners"}.element(i)
		r.URL = d.expand(r.URL, p.child("url"), lookup)
		r.Token = job.Secret(d.expand(r.Token.Reveal(), p.child("token"), lookup))
	}
}

func (d *decoder) expand(text string, p place, lookup func(string) (string, bool)) string {
	return os.Expand(text, func(name string) string {
		value, ok := lookup(name)
		if !ok && d.given(p.path) {
			d.report(Warning, d.at[p.path], p.key, "the environment has no variable "+quoteValue(name)+"; nothing stands in its place")
		}
		return value
	})
}

func hash(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
