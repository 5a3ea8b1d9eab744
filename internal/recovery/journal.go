// Package recovery makes sure that a job survives its runner. Before a job's
// first phase a Journal holds what is needed to end and report it: whose it
// is, what it started, and its log. After a crash the next process finds the
// journal of the dead one, ends what still runs, delivers the rest of the log
// and reports the job failed.
//
// Each process has a directory of its own below the state directory and holds
// a lock on it for as long as it lives. The kernel drops the lock with the
// process, so a journal that can be locked belongs to nobody, and two
// processes never settle the same job.
package recovery

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/glassrunner/glassrunner/internal/executor"
	"github.com/glassrunner/glassrunner/internal/job"
)

// Names below a process's directory.
const (
	lockFile   = "lock"
	recordFile = "job.jsonl"
	logFile    = "log"
	dirMode    = 0o700
	fileMode   = 0o600
)

// openTries is how often a process tries to get a directory of its own.
const openTries = 5

// Record is what a later process needs to know of a job.
type Record struct {
	Job            job.ID      `json:"job"`
	Token          string      `json:"token"` // the job's, in the clear: the file is for this user only
	Runner         job.Runner  `json:"runner"`
	At             Coordinator `json:"coordinator"`
	FailureReasons []string    `json:"failure_reasons,omitempty"` // that the coordinator understands
	Timestamps     bool        `json:"timestamps"`                // how the log's lines begin
	DebugTrace     bool        `json:"debug_trace"`
	Started        time.Time   `json:"started"`
	// Final is what is left to be told of a job that has ended; nil: its
	// process died before the job's end.
	Final *job.Update `json:"-"`
}

// Coordinator says where to report.
type Coordinator struct {
	URL         string `json:"url"`
	TLSCAFile   string `json:"tls_ca_file,omitempty"`
	TLSCertFile string `json:"tls_cert_file,omitempty"`
	TLSKeyFile  string `json:"tls_key_file,omitempty"`
}

// Journal is this process's directory of jobs. Its methods may be called at
// the same time.
type Journal struct {
	state string // state directory
	dir   string // this process's
	lock  *os.File

	mu       sync.Mutex
	next     int
	entries  map[*Entry]struct{} // of jobs that this process has taken and not forgotten
	settling map[string][]*Entry // of other processes, by directory, which this one has locked
}

// Open makes the journal of this process below the state directory.
func Open(state string) (*Journal, error) {
	if err := os.MkdirAll(state, dirMode); err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	var dir string
	var lock *os.File
	for try := 1; lock == nil; try++ {
		var err error
		if dir, err = os.MkdirTemp(state, fmt.Sprintf("process-%d-", os.Getpid())); err != nil {
			return nil, fmt.Errorf("state directory: %w", err)
		}
		lock, err = lockDir(dir)
		// Another process may have taken it for one that was left behind.
		if err != nil && (try == openTries || !errors.Is(err, errHeld) && !errors.Is(err, fs.ErrNotExist)) {
			return nil, errors.Join(fmt.Errorf("state directory: %w", err), os.RemoveAll(dir))
		}
	}
	return &Journal{state: state, dir: dir, lock: lock, entries: map[*Entry]struct{}{}, settling: map[string][]*Entry{}}, nil
}

// Close gives the directory up. Jobs that are still in it are settled by the
// next process; without any it is removed.
func (j *Journal) Close() error {
	left, err := os.ReadDir(j.dir)
	if err == nil && len(left) <= 1 {
		err = os.RemoveAll(j.dir)
	}
	return errors.Join(err, j.lock.Close())
}

// Begin stores a job.
func (j *Journal) Begin(r Record) (*Entry, error) {
	j.mu.Lock()
	j.next++
	dir := filepath.Join(j.dir, strconv.Itoa(j.next)+"-"+r.Job.String())
	j.mu.Unlock()
	if err := os.Mkdir(dir, dirMode); err != nil {
		return nil, err
	}
	e := &Entry{Record: r, dir: dir, journal: j}
	j.mu.Lock()
	j.entries[e] = struct{}{}
	j.mu.Unlock()
	var err error
	if e.file, err = os.OpenFile(filepath.Join(dir, recordFile), os.O_CREATE|os.O_EXCL|os.O_APPEND|os.O_WRONLY, fileMode); err == nil {
		err = e.add(line{Record: &r})
	}
	if err != nil {
		return nil, errors.Join(err, e.Done())
	}
	return e, nil
}

// Entry is one job in a journal: a directory with the job's log and a file of
// lines, one for each thing that became known of the job. A line is written
// at once, so a crash leaves all of it or, at the end, a part that is no line.
type Entry struct {
	Record  Record
	dir     string
	journal *Journal // nil: another process's job

	mu     sync.Mutex
	file   *os.File // nil: nothing more is to be stored
	claims []executor.Claim
	done   bool
}

// line is one line of an entry's file: one of its fields.
type line struct {
	Record *Record         `json:"record,omitempty"` // the first line
	Claim  *executor.Claim `json:"claim,omitempty"`
	Final  *job.Update     `json:"final,omitempty"`
}

func (e *Entry) add(l line) error {
	text, err := json.Marshal(l)
	if err != nil {
		return err
	}
	if e.file == nil {
		return fmt.Errorf("the journal of job %d is closed", e.Record.Job)
	}
	_, err = e.file.Write(append(text, '\n'))
	return err
}

func (e *Entry) close() error {
	if e.file == nil {
		return nil
	}
	err := e.file.Close()
	e.file = nil
	return err
}

// LogPath is where the job's log is kept.
func (e *Entry) LogPath() string { return filepath.Join(e.dir, logFile) }

// Claim adds something to what must be ended if this process dies.
func (e *Entry) Claim(c executor.Claim) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.add(line{Claim: &c}); err != nil {
		return err
	}
	e.claims = append(e.claims, c)
	return nil
}

// Ended stores how the job ended, so that a later process can tell it if this
// one does not get to it. Nothing can be stored after it.
func (e *Entry) Ended(u job.Update) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.Record.Final = &u
	return errors.Join(e.add(line{Final: &u}), e.close())
}

// Claims are what the job had started.
func (e *Entry) Claims() []executor.Claim { return e.claims }

// Done forgets the job.
func (e *Entry) Done() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.done = true
	e.journal.forget(e)
	err := e.close()
	// What is there is known: to look for it costs more than to remove it.
	_ = os.Remove(e.LogPath())
	_ = os.Remove(filepath.Join(e.dir, recordFile))
	if os.Remove(e.dir) == nil {
		return err
	}
	return errors.Join(err, os.RemoveAll(e.dir))
}

// Orphans returns the jobs of processes that are no more, and keeps them from
// any other process until release is called. What cannot be read is in err;
// the rest is returned all the same.
func (j *Journal) Orphans() (orphans []*Entry, release func(), err error) {
	var locks []*os.File
	var dirs []string
	release = func() {
		for i, l := range locks {
			if left, rerr := os.ReadDir(dirs[i]); rerr == nil && len(left) <= 1 {
				_ = os.RemoveAll(dirs[i]) // an empty directory left behind is settled next time
			}
			_ = l.Close()
			j.mu.Lock()
			delete(j.settling, dirs[i])
			j.mu.Unlock()
		}
	}
	all, err := filepath.Glob(filepath.Join(j.state, "process-*"))
	if err != nil {
		return nil, release, err
	}
	var errs []error
	for _, dir := range all {
		if dir == j.dir {
			continue
		}
		lock, lerr := lockDir(dir)
		if errors.Is(lerr, errHeld) || errors.Is(lerr, fs.ErrNotExist) {
			continue // its process lives, or somebody else has just settled it
		}
		if lerr != nil {
			errs = append(errs, lerr)
			continue
		}
		locks, dirs = append(locks, lock), append(dirs, dir)
		found, rerr := readProcess(dir)
		j.mu.Lock()
		j.settling[dir] = found
		j.mu.Unlock()
		orphans = append(orphans, found...)
		errs = append(errs, rerr)
	}
	return orphans, release, errors.Join(errs...)
}

func readProcess(dir string) ([]*Entry, error) {
	list, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var entries []*Entry
	var errs []error
	for _, d := range list {
		if !d.IsDir() {
			continue
		}
		e, err := readEntry(filepath.Join(dir, d.Name()))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		entries = append(entries, e)
	}
	return entries, errors.Join(errs...)
}

func readEntry(dir string) (*Entry, error) {
	path := filepath.Join(dir, recordFile)
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	e, err := parseEntry(text)
	if errors.Is(err, errPartial) {
		// The process died before it had told anybody that it took the job.
		return nil, errors.Join(fmt.Errorf("%s: a job that was never stored", dir), os.RemoveAll(dir))
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	e.dir = dir
	return e, nil
}

// errPartial says that not even the first line of an entry was written.
var errPartial = errors.New("the entry has no line")

// parseEntry reads the lines of an entry.
func parseEntry(text []byte) (*Entry, error) {
	e := &Entry{}
	first, rest, whole := bytes.Cut(text, []byte{'\n'})
	if !whole {
		return nil, errPartial
	}
	l := line{Record: &e.Record}
	if err := json.Unmarshal(first, &l); err != nil {
		return nil, err
	}
	for text := range bytes.Lines(rest) {
		var l line
		// A line that was cut by the crash claims nothing that exists: a
		// claim is stored before the thing runs.
		if json.Unmarshal(text, &l) != nil {
			continue
		}
		if l.Claim != nil {
			e.claims = append(e.claims, *l.Claim)
		}
		if l.Final != nil {
			e.Record.Final = l.Final
		}
	}
	return e, nil
}
