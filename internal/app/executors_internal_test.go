package app

import (
	"log/slog"
	"os/user"
	"testing"
)

func TestHomeOf(t *testing.T) {
	me, err := user.Current()
	if err != nil {
		t.Skipf("this process has no user: %v", err)
	}
	log := slog.New(slog.DiscardHandler)
	for name, want := range map[string]string{me.Username: me.HomeDir, "": "", "no such user": ""} {
		if got := homeOf(name, log); got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
}
