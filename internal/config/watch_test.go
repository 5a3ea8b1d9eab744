package config_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/glassrunner/glassrunner/internal/config"
)

// interval is how often the watchers of these tests look.
const interval = 5 * time.Millisecond

// watch starts a watcher and returns the changes that it tells.
func watch(t *testing.T, path string) <-chan string {
	t.Helper()
	cfg, _, err := config.Load(path, hermetic)
	if err != nil {
		t.Fatal(err)
	}
	return watchFrom(t, path, cfg.Hash)
}

// watchFrom is watch for a known content.
func watchFrom(t *testing.T, path, hash string) <-chan string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	changes := make(chan string, 16)
	done := make(chan struct{})
	w := config.NewWatcher(path, interval, hash)
	go func() {
		defer close(done)
		w.Run(ctx, func(hash string) { changes <- hash })
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return changes
}

func expectChange(t *testing.T, changes <-chan string, path string) {
	t.Helper()
	select {
	case got := <-changes:
		cfg, _, err := config.Load(path, hermetic)
		if err != nil || cfg.Hash != got {
			t.Errorf("told %s, but the file has %s (%v)", got, cfg.Hash, err)
		}
	case <-time.After(3 * time.Second):
		t.Fatal("no change within three seconds")
	}
}

func expectNothing(t *testing.T, changes <-chan string) {
	t.Helper()
	select {
	case <-changes:
		t.Fatal("told a change that there was not")
	case <-time.After(30 * interval):
	}
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestWatcher(t *testing.T) {
	t.Parallel()
	t.Run("rewritten, same size", func(t *testing.T) {
		t.Parallel()
		path := write(t, "concurrent = 1\n")
		changes := watch(t, path)
		put(t, path, "concurrent = 2\n")
		expectChange(t, changes, path)
		put(t, path, "concurrent = 3\n")
		expectChange(t, changes, path)
	})
	t.Run("renamed over", func(t *testing.T) {
		t.Parallel()
		path := write(t, "concurrent = 1\n")
		changes := watch(t, path)
		put(t, path+".new", "concurrent = 2\n")
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
		expectChange(t, changes, path)
	})
	t.Run("touched", func(t *testing.T) {
		t.Parallel()
		path := write(t, "concurrent = 1\n")
		changes := watch(t, path)
		when := time.Now().Add(time.Hour)
		if err := os.Chtimes(path, when, when); err != nil {
			t.Fatal(err)
		}
		put(t, path+".new", "concurrent = 1\n")
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
		expectNothing(t, changes)
	})
	t.Run("removed for a moment", func(t *testing.T) {
		t.Parallel()
		path := write(t, "concurrent = 1\n")
		changes := watch(t, path)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		expectNothing(t, changes)
		put(t, path, "concurrent = 1\n")
		expectNothing(t, changes)
		put(t, path, "concurrent = 2\n")
		expectChange(t, changes, path)
	})
	t.Run("created", func(t *testing.T) {
		t.Parallel()
		path := filepath.Join(t.TempDir(), "config.toml")
		changes := watch(t, path)
		put(t, path, "concurrent = 2\n")
		expectChange(t, changes, path)
	})
	t.Run("directory", func(t *testing.T) {
		t.Parallel()
		path := filepath.Join(t.TempDir(), "config.toml")
		changes := watch(t, path)
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
		expectNothing(t, changes)
	})
	t.Run("changed before it began", func(t *testing.T) {
		t.Parallel()
		path := write(t, "concurrent = 1\n")
		known, _, err := config.Load(path, hermetic)
		if err != nil {
			t.Fatal(err)
		}
		put(t, path, "concurrent = 2\n")
		expectChange(t, watchFrom(t, path, known.Hash), path)
	})
}

// TestWatcherConfigMap swaps the directory that the file is linked to, as
// Kubernetes does.
func TestWatcherConfigMap(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	when := time.Now().Add(-time.Hour)
	version := func(name, text string) {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, name, "config.toml")
		put(t, file, text)
		// The times do not tell the versions apart.
		if err := os.Chtimes(file, when, when); err != nil {
			t.Fatal(err)
		}
	}
	swap := func(name string) {
		next := filepath.Join(dir, "..data_tmp")
		if err := os.Symlink(name, next); err != nil {
			t.Skip("this system has no symbolic links for us")
		}
		if err := os.Rename(next, filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	version("..1", "concurrent = 1\n")
	version("..2", "concurrent = 2\n")
	version("..3", "concurrent = 2\n")
	swap("..1")
	path := filepath.Join(dir, "config.toml")
	if err := os.Symlink(filepath.Join("..data", "config.toml"), path); err != nil {
		t.Fatal(err)
	}
	changes := watch(t, path)
	expectNothing(t, changes)
	swap("..2")
	expectChange(t, changes, path)
	swap("..3")
	expectNothing(t, changes)
}

// TestWatcherHalfWritten writes a file bit by bit; only its end is told, within
// three seconds of it.
func TestWatcherHalfWritten(t *testing.T) {
	t.Parallel()
	path := write(t, "concurrent = 1\n")
	synctest.Test(t, func(t *testing.T) {
		known, _, err := config.Load(path, hermetic)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var told []string
		go config.NewWatcher(path, 0, known.Hash).Run(ctx, func(hash string) { told = append(told, hash) })
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		for range 16 {
			if _, err := f.WriteString("# line\n"); err != nil {
				t.Fatal(err)
			}
			<-time.After(70 * time.Millisecond)
		}
		<-time.After(3 * time.Second)
		synctest.Wait()
		cancel()
		synctest.Wait()
		now, _, err := config.Load(path, hermetic)
		if err != nil || len(told) != 1 || told[0] != now.Hash {
			t.Errorf("got %v, %v, want only %s", told, err, now.Hash)
		}
	})
}
