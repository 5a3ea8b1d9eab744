package docker

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/moby/client"

	"github.com/glassrunner/glassrunner/internal/executor"
)

// Disks are the directories of this machine that the configuration lends to
// jobs, and that of the engine itself. One on another machine has its own disks
// and somebody else who watches them.
func (d *Driver) Disks(ctx context.Context) ([]executor.Disk, error) {
	n := connectionFrom(d.o.Config)
	if !n.near() {
		return nil, nil
	}
	var disks []executor.Disk
	for _, v := range d.o.Config.Volumes {
		m, err := parseVolume(v)
		if err != nil || !filepath.IsAbs(m.source) || slices.Contains(strings.Split(m.opts, ","), "ro") {
			continue
		}
		// A socket or a file that is lent to jobs fills nothing.
		if info, err := os.Stat(m.source); err == nil && !info.IsDir() {
			continue
		}
		root := "builds"
		if m.target == d.o.CacheDir {
			root = "cache"
		}
		disks = append(disks, executor.Disk{Root: root, Path: filepath.Clean(m.source)})
	}
	root, err := d.engineRoot(ctx, n)
	if root != "" {
		disks = append(disks, executor.Disk{Root: "engine", Path: root})
	}
	return disks, err
}

// engineRoot asks the engine once where its data is.
func (d *Driver) engineRoot(ctx context.Context, n connection) (string, error) {
	d.mu.Lock()
	root := d.root
	d.mu.Unlock()
	if root != "" {
		return root, nil
	}
	e, err := connect(ctx, n)
	if err != nil {
		return "", err
	}
	defer e.close()
	info, err := e.Info(ctx, client.InfoOptions{})
	if err != nil {
		return "", e.gone(err)
	}
	root = info.Info.DockerRootDir
	// An engine in a container, or one behind a forwarded socket, has another
	// machine's directories.
	if st, err := os.Stat(root); err != nil || !st.IsDir() || !filepath.IsAbs(root) {
		return "", nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.root = root
	return root, nil
}
