package helper

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/glassrunner/glassrunner/internal/archive"
	"github.com/glassrunner/glassrunner/internal/cache"
	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/script"
)

// storage are the options that say where a cache is.
type storage struct {
	file, url, head, check, altURL, altHead string
	header                                  []string
	minutes                                 int
}

func (s *storage) flags(f *pflag.FlagSet) {
	f.StringVar(&s.file, "file", "", "archive on disk")
	f.StringVar(&s.url, "url", "", "address of the object")
	f.StringVar(&s.head, "head-url", "", "address to ask for the object")
	f.StringVar(&s.check, "check-url", "", "the same")
	f.StringVar(&s.altURL, "alternate-url", "", "address of the object under its other name")
	f.StringVar(&s.altHead, "alternate-head-url", "", "address to ask for that")
	f.StringArrayVar(&s.header, "header", nil, "`name: value` that the request has to have")
	f.IntVar(&s.minutes, "timeout", int(cache.DefaultTimeout/time.Minute), "bound of a transfer in minutes")
}

func (s *storage) timeout() time.Duration { return time.Duration(s.minutes) * time.Minute }

// remotes are the addresses of the options, or else of the environment.
func (s *storage) remotes(t *task) (primary, alternate cache.Remote, err error) {
	if s.file == "" {
		return primary, alternate, errors.New("--file is not set")
	}
	if !filepath.IsAbs(s.file) {
		s.file = filepath.Join(t.dir, s.file)
	}
	if s.url != "" {
		primary = cache.Remote{URL: job.Secret(s.url), HeadURL: job.Secret(s.head), Header: map[string]string{}}
		if s.head == "" {
			primary.HeadURL = job.Secret(s.check)
		}
		for _, h := range s.header {
			if k, v, ok := strings.Cut(h, ":"); ok {
				primary.Header[strings.TrimSpace(k)] = strings.TrimSpace(v)
			}
		}
		return primary, cache.Remote{URL: job.Secret(s.altURL), HeadURL: job.Secret(s.altHead)}, nil
	}
	text := t.Getenv(script.EnvCacheLinks)
	if text == "" {
		return primary, alternate, nil
	}
	var l script.CacheLinks
	if json.Unmarshal([]byte(text), &l) != nil {
		return primary, alternate, fmt.Errorf("%s cannot be read", script.EnvCacheLinks)
	}
	of := func(w script.WireLink) cache.Remote {
		return cache.Remote{URL: job.Secret(w.URL), HeadURL: job.Secret(w.HeadURL), Header: w.Header}
	}
	return of(l.Primary), of(l.Alternate), nil
}

func extractor(w World) *cobra.Command {
	var s storage
	var b bounds
	var fallback bool
	cmd := &cobra.Command{Use: "cache-extractor", Short: "Fetch and extract a cache"}
	flags := cmd.Flags()
	s.flags(flags)
	b.flags(flags)
	flags.BoolVar(&fallback, "fallback", false, "this is not the cache's own key")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		t, err := w.start()
		if err != nil {
			return err
		}
		ctx, stop := interruptible(cmd.Context())
		defer stop()
		primary, alternate, err := s.remotes(t)
		if err != nil {
			return t.fatal(err)
		}
		sum, err := cache.Extract(ctx, cache.ExtractOptions{
			Dir: t.dir, File: s.file, Remote: primary, Alternate: alternate, Timeout: s.timeout(), Fallback: fallback,
			Workers: t.number("FASTZIP_EXTRACTOR_CONCURRENCY"), Parallel: t.parallel(), Limits: b.limits(), Print: t,
		})
		t.report("cache", "restore", string(sum.Result), sum.Bytes, sum.Took)
		if err != nil {
			return ErrTold // it has been printed
		}
		return nil
	}
	return cmd
}

// parallel is how a cache is downloaded.
func (t *task) parallel() cache.Parallel {
	if !t.on("FF_USE_PARALLEL_CACHE_TRANSFER", false) {
		return cache.Parallel{}
	}
	return cache.Parallel{
		Streams: cmp.Or(t.number("CACHE_CONCURRENCY"), cache.DefaultStreams), Part: int64(t.number("CACHE_CHUNK_SIZE")),
	}
}

func archiver(w World) *cobra.Command {
	var s storage
	var f files
	var other, key string
	var limit int64
	cmd := &cobra.Command{Use: "cache-archiver", Short: "Archive and store a cache"}
	flags := cmd.Flags()
	s.flags(flags)
	f.flags(flags)
	flags.StringVar(&other, "alternate-file", "", "archive on disk under the key's other name")
	flags.StringVar(&key, "key", "", "key for people")
	flags.Int64Var(&limit, "max-uploaded-archive-size", 0, "most `bytes` that are uploaded")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		t, err := w.start()
		if err != nil {
			return err
		}
		ctx, stop := interruptible(cmd.Context())
		defer stop()
		primary, _, err := s.remotes(t)
		if err != nil {
			return t.fatal(err)
		}
		rules, err := f.rules(ctx, t)
		if err != nil {
			return t.fatal(err)
		}
		format, err := archive.ParseFormat(t.Getenv("CACHE_COMPRESSION_FORMAT"))
		if err != nil || format == archive.Gzip || format == archive.Raw {
			t.Warn(fmt.Sprintf("CACHE_COMPRESSION_FORMAT: unknown format %q, taking zip", t.Getenv("CACHE_COMPRESSION_FORMAT")))
			format = archive.Zip
		}
		if other != "" && !filepath.IsAbs(other) {
			other = filepath.Join(t.dir, other)
		}
		sum, err := cache.Archive(ctx, cache.ArchiveOptions{
			Dir: t.dir, File: s.file, Other: other, Rules: rules, Format: format, Level: t.level("CACHE_COMPRESSION_LEVEL"),
			Workers: t.number("FASTZIP_ARCHIVER_CONCURRENCY"), Remote: primary, Timeout: s.timeout(), Limit: limit, Key: key, Print: t,
		})
		t.report("cache", "save", string(sum.Result), sum.Bytes, sum.Took)
		if err != nil {
			return t.fatal(err)
		}
		return nil
	}
	return cmd
}

// cacheInit lets every user of a container write into its cache directories.
func cacheInit(w World) *cobra.Command {
	return &cobra.Command{
		Use: "cache-init PATH...", Short: "Open cache directories to every user", Args: cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error {
			t, err := w.start()
			if err != nil {
				return err
			}
			for _, p := range args {
				if err := os.Chmod(p, 0o777); err != nil { //nolint:gosec // that is what it is for
					return t.fatal(err)
				}
			}
			return nil
		},
	}
}
