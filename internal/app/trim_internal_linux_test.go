package app

import (
	"slices"
	"testing"
)

func TestProgramPages(t *testing.T) {
	const maps = `00400000-0153e000 r-xp 00000000 fe:00 1234                               /usr/bin/a program
0153e000-02800000 r--p 0113e000 fe:00 1234                               /usr/bin/a program
02800000-028a0000 rw-p 02400000 fe:00 1234                               /usr/bin/a program
028a0000-028ca000 rw-p 00000000 00:00 0
7f0000000000-7f0000001000 r--p 00000000 fe:00 99                         /usr/lib/locale/C.utf8
7ffd00000000-7ffd00021000 rw-p 00000000 00:00 0                          [stack]
nonsense
`
	want := []mapping{{0x400000, 0x153e000}, {0x153e000, 0x2800000}}
	if got := programPages(maps, "/usr/bin/a program"); !slices.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
	if got := programPages(maps, "/usr/bin/another"); got != nil {
		t.Errorf("of another program: got %x", got)
	}
	release() // and this program goes on
}
