package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRender makes every file, and fails when a checkout holds another text.
func TestRender(t *testing.T) {
	t.Parallel()
	files, err := render()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		got, err := os.ReadFile(filepath.Join("../..", name))
		if err != nil || string(got) != string(want) {
			t.Errorf("%s is out of date (%v): run make docs", name, err)
		}
	}
	for _, dir := range generated() {
		have, err := os.ReadDir(filepath.Join("../..", dir))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range have {
			if _, ok := files[filepath.Join(dir, f.Name())]; !ok {
				t.Errorf("%s is no longer generated: run make docs", filepath.Join(dir, f.Name()))
			}
		}
	}
}

// TestCheckFails shows that the check finds what it is there for.
func TestCheckFails(t *testing.T) {
	t.Parallel()
	root, err := os.OpenRoot("../..")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = root.Close() }()
	for _, tt := range []struct{ name, metrics, want string }{
		{"a program without the metrics", `[{"name":"other","type":"gauge","labels":[]}]`, `no metric "glassrunner_process_state"`},
		{"a metric that is not pending any more", `[{"name":"` + pendingName() + `","type":"gauge","labels":[]}]`, "no longer pending"},
		{"no catalogue", `[]`, "empty"},
	} {
		if strings.Contains(tt.want, "pending") && len(pending()) == 0 {
			continue
		}
		if err := check(root, []byte(tt.metrics), io.Discard); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
	}
}

// pendingName is one of the list, if there is any.
func pendingName() string {
	for _, m := range pending() {
		return m.Name
	}
	return "none"
}

func TestLabelValues(t *testing.T) {
	t.Parallel()
	selector, label := labelValues(`label_values(x{a="b, c"}, instance)`)
	if selector != `x{a="b, c"}` || label != "instance" {
		t.Errorf("got %q and %q", selector, label)
	}
}
