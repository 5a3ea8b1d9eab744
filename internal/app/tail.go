package app

import (
	"errors"
	"io"
	"os"
	"sync"

	"github.com/glassrunner/glassrunner/internal/build"
	"github.com/glassrunner/glassrunner/internal/job"
)

// tails knows where the logs of running jobs are. They are masked before they
// are written.
type tails struct {
	mu    sync.Mutex
	paths map[tailKey]string
}

type tailKey struct {
	runner job.Runner
	id     job.ID
}

// read returns the last n bytes of a running job's log.
func (t *tails) read(r job.Runner, id job.ID, n int64) ([]byte, error) {
	t.mu.Lock()
	path, ok := t.paths[tailKey{r, id}]
	t.mu.Unlock()
	if !ok {
		return nil, errors.New("no such job has a log")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.NewSectionReader(f, max(0, info.Size()-n), n))
}

// follow makes the log of a job known until the entry is done.
func (t *tails) follow(e build.Entry, r job.Runner, id job.ID) build.Entry {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.paths == nil {
		t.paths = make(map[tailKey]string)
	}
	k := tailKey{r, id}
	t.paths[k] = e.LogPath()
	return followed{e, t, k}
}

// followed is an entry whose log is known.
type followed struct {
	build.Entry
	t *tails
	k tailKey
}

// Ended forgets the log: what is left of it is on its way.
func (f followed) Ended(u job.Update) error {
	f.forget()
	return f.Entry.Ended(u)
}

// Done forgets the log, then the entry.
func (f followed) Done() error {
	f.forget()
	return f.Entry.Done()
}

func (f followed) forget() {
	f.t.mu.Lock()
	defer f.t.mu.Unlock()
	if f.t.paths[f.k] == f.LogPath() {
		delete(f.t.paths, f.k)
	}
}
