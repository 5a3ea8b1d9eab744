package executor_test

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/glassrunner/glassrunner/internal/executor"
	"github.com/glassrunner/glassrunner/internal/job"
)

// slices cannot be compared.
type list []io.Writer

func (list) Write(p []byte) (int, error) { return len(p), nil }

func TestSameWriter(t *testing.T) {
	var a, b bytes.Buffer
	for _, tt := range []struct {
		name string
		a, b io.Writer
		want bool
	}{
		{"one", &a, &a, true},
		{"two", &a, &b, false},
		{"none", nil, nil, false},
		{"one and none", &a, nil, false},
		{"no pointers", list{&a}, list{&a}, false},
	} {
		if got := executor.SameWriter(tt.a, tt.b); got != tt.want {
			t.Errorf("%s: got %v", tt.name, got)
		}
	}
}

func TestTail(t *testing.T) {
	tail := executor.Tail{Limit: 5}
	for _, s := range []string{"", "abc", "def", "0123456789"} {
		if n, err := tail.Write([]byte(s)); n != len(s) || err != nil {
			t.Errorf("wrote %d of %d, %v", n, len(s), err)
		}
	}
	if got := tail.String(); got != "56789" {
		t.Errorf("got %q", got)
	}
}

func TestMisconfigured(t *testing.T) {
	inner := errors.New("inner")
	err := executor.Misconfigured("key %q: %w", "k", inner)
	known, ok := errors.AsType[*executor.Error](err)
	if !ok || known.Reason != job.ConfigurationError || !errors.Is(err, inner) || err.Error() != `key "k": inner` {
		t.Errorf("got %#v", err)
	}
}
