package build

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/script"
)

// Caches makes addresses of caches in an object storage.
type Caches interface {
	// Link returns addresses for o that are good for life.
	Link(ctx context.Context, o script.CacheObject, life time.Duration) (script.Link, error)
}

// signTimeout bounds the making of one phase's addresses, which may have to
// ask the storage where a bucket is.
const signTimeout = time.Minute

// transfers reports whether a phase moves caches or artifacts.
func transfers(p job.Phase) bool {
	switch p {
	case job.RestoreCache, job.DownloadArtifacts, job.ArchiveCache, job.ArchiveCacheFailed, job.UploadArtifacts, job.UploadArtifactsF:
		return true
	default:
		return false
	}
}

// cacheLinks makes the addresses that a phase may use. Without one, the cache
// is kept on the job's machine only.
func (r *run) cacheLinks(ctx context.Context, j *script.Job, p job.Phase) map[script.CacheObject]script.Link {
	if r.o.Caches == nil {
		return nil
	}
	objects := script.CacheObjects(j, p)
	if len(objects) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, signTimeout)
	defer cancel()
	links := make(map[script.CacheObject]script.Link, len(objects))
	for _, o := range objects {
		l, err := r.o.Caches.Link(ctx, o, r.spec.Timeout)
		if err != nil {
			r.o.Bus.Emit(ctx, event.Degraded{What: "cache_address", Err: r.hide(err)})
			r.out.Warn(fmt.Sprintf("The cache's storage cannot be used, the cache stays on this machine: no address for %q", o.Key))
			break
		}
		links[o] = l
	}
	return links
}

// mark is what begins the lines of reports in this run. Nobody else knows it.
func (r *run) mark() string {
	if r.reportMark == "" {
		r.reportMark = "glassrunner-report-" + rand.Text()
	}
	return r.reportMark
}

// report is a line of the helper about what it moved.
type report struct {
	Kind   string `json:"kind"`
	Op     string `json:"op"`
	Result string `json:"result"`
	Bytes  int64  `json:"bytes"`
	Millis int64  `json:"ms"`
}

// fact is what a report says, nil when it is none. It comes from the job's
// side: what it can say is bounded here.
func (p report) fact(most time.Duration) event.Fact {
	if p.Bytes < 0 || p.Millis < 0 || p.Bytes > 1<<50 {
		return nil
	}
	took := min(time.Duration(min(p.Millis, 1<<40))*time.Millisecond, most)
	results := map[string][]string{
		"cache restore":     {"hit", "stale", "miss", "error"},
		"cache save":        {"stored", "unchanged", "empty", "too_large", "error"},
		"artifact upload":   {"ok", "empty", "too_large", "forbidden", "error"},
		"artifact download": {"ok", "not_found", "forbidden", "unsafe", "error"},
	}[p.Kind+" "+p.Op]
	switch {
	case !slices.Contains(results, p.Result):
		return nil
	case p.Kind == "cache":
		return event.CacheDone{Op: p.Op, Result: p.Result, Bytes: p.Bytes, Took: took}
	default:
		return event.ArtifactDone{Direction: p.Op, Result: p.Result, Bytes: p.Bytes, Took: took}
	}
}

// told is a line of the job log about a transfer, with what the metrics count.
func told(f event.Fact) string {
	switch f := f.(type) {
	case event.CacheDone:
		return fmt.Sprintf("Cache %s: %s, %d bytes in %.3f s\n", f.Op, f.Result, f.Bytes, f.Took.Seconds())
	case event.ArtifactDone:
		return fmt.Sprintf("Artifact %s: %s, %d bytes in %.3f s\n", f.Direction, f.Result, f.Bytes, f.Took.Seconds())
	default:
		return ""
	}
}

// maxReport bounds a line of a report, in bytes.
const maxReport = 1 << 10

// reports takes the reports of the helper out of a phase's output. A line is
// held back only as long as it may still be one.
type reports struct {
	mu     sync.Mutex // an executor that comes back late may still write
	w      io.Writer
	mark   []byte
	tell   func(report) string // the line that takes the report's place
	begun  []byte              // of a line that may be a report
	inside bool                // within a line that is none
}

func newReports(w io.Writer, mark string, tell func(report) string) *reports {
	return &reports{w: w, mark: []byte(mark + " "), tell: tell}
}

// Write passes on what is no report.
func (r *reports) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := len(p)
	for len(p) > 0 {
		line, rest := p, []byte(nil)
		i := bytes.IndexByte(p, '\n')
		if i >= 0 {
			line, rest = p[:i+1], p[i+1:]
		}
		if r.inside || len(r.begun) == 0 && !r.may(line) {
			// As much as possible in one write: up to the next line that may be a report.
			end := len(line)
			for i >= 0 && len(rest) > 0 && !r.may(rest) {
				if i = bytes.IndexByte(rest, '\n'); i < 0 {
					end = len(p)
					break
				}
				end += i + 1
				rest = rest[i+1:]
			}
			if _, err := r.w.Write(p[:end]); err != nil {
				return 0, err
			}
			r.inside = p[end-1] != '\n'
			p = p[end:]
			continue
		}
		r.begun = append(r.begun, line...)
		p = rest
		if err := r.judge(); err != nil {
			return 0, err
		}
	}
	return n, nil
}

// may reports whether a line that begins like this can be a report.
func (r *reports) may(line []byte) bool {
	n := min(len(line), len(r.mark))
	return bytes.Equal(line[:n], r.mark[:n])
}

// judge decides about the line that was begun.
func (r *reports) judge() error {
	whole := r.begun[len(r.begun)-1] == '\n'
	if r.may(r.begun) && !whole && len(r.begun) <= maxReport {
		return nil
	}
	line := r.begun
	r.begun = nil
	if r.may(line) && whole && len(line) > len(r.mark) {
		var p report
		if json.Unmarshal(line[len(r.mark):], &p) == nil {
			_, err := io.WriteString(r.w, r.tell(p))
			return err
		}
	}
	_, err := r.w.Write(line)
	r.inside = !whole
	return err
}

// Close passes on what was begun.
func (r *reports) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	line := r.begun
	r.begun = nil
	if len(line) == 0 {
		return nil
	}
	_, err := r.w.Write(line)
	return err
}
