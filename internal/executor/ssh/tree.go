package ssh

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/glassrunner/glassrunner/internal/executor"
	"github.com/glassrunner/glassrunner/internal/remote"
)

// markName is the environment variable by which a job's processes are known.
// It is not that of the shell executor, which may have jobs on the same machine.
const markName = "GLASSRUNNER_SSH_JOB"

// plain reports whether a mark can stand in a script as it is.
func plain(mark string) bool {
	return len(mark) >= 8 && !strings.ContainsFunc(mark, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	})
}

// endScript ends the processes whose environment has $mark: it asks, waits up
// to $tenths of a second, kills until none is left, and prints how many there
// were. Its own have no mark. A grep that finds nothing fails, and one may run
// ahead of a process that has just ended.
const endScript = `
[ -r /proc/self/environ ] || exit 0
find() { grep -lsF "$name=$mark" /proc/[0-9]*/environ | sed 's,^/proc/,,; s,/environ$,,'; }
alive() { for p in $(find); do case $(sed 's/.*) //' "/proc/$p/stat" 2>/dev/null) in Z*|X*|'') ;; *) echo "$p" ;; esac; done; }
seen=
note() { for p in $1; do case " $seen " in *" $p "*) ;; *) seen="$seen $p" ;; esac; done; }
pids=$(alive); note "$pids"
if [ "$tenths" -gt 0 ] && [ -n "$pids" ]; then
  kill -TERM $pids 2>/dev/null; kill -CONT $pids 2>/dev/null
  while [ "$tenths" -gt 0 ] && [ -n "$pids" ]; do
    sleep 0.1 2>/dev/null || { sleep 1; tenths=$((tenths-9)); }
    tenths=$((tenths-1)); pids=$(alive); note "$pids"
  done
fi
tries=200
while [ -n "$pids" ]; do
  [ "$tries" -gt 0 ] || { echo "processes that cannot be killed: $pids" >&2; exit 1; }
  kill -KILL $pids 2>/dev/null
  tries=$((tries-1)); pids=$(alive); note "$pids"
  [ -z "$pids" ] || sleep 0.05 2>/dev/null || sleep 1
done
set -- $seen; echo $#
`

// end ends all processes with a mark and returns how many there were.
func end(ctx context.Context, c *remote.Conn, mark string, grace time.Duration) (int, error) {
	script := fmt.Sprintf("name=%s mark=%s tenths=%d\n%s", markName, mark, max(0, int(grace/(100*time.Millisecond))), endScript)
	out, err := c.Output(ctx, "exec sh", []byte(script))
	if err != nil {
		return 0, fmt.Errorf("ending the job's processes: %w", err)
	}
	n, _ := strconv.Atoi(strings.TrimSpace(string(out))) // nothing, where there is no /proc
	return n, nil
}

// listScript prints process, mark and start (Unix time) of those whose mark
// begins with $owner.
const listScript = `
[ -r /proc/self/environ ] || exit 0
for f in $(grep -lsF "$name=$owner" /proc/[0-9]*/environ); do
  m=$(tr '\0' '\n' <"$f" 2>/dev/null | sed -n "s/^$name=//p" | head -n 1)
  s=$(stat -c %Y "${f%/environ}" 2>/dev/null) || continue
  p=${f#/proc/}; echo "${p%/environ} $m $s"
done
`

// list finds all processes of an owner's jobs.
func list(ctx context.Context, c *remote.Conn, machine, owner string) ([]executor.Leftover, error) {
	script := fmt.Sprintf("name=%s owner=%s\n%s", markName, owner, listScript)
	out, err := c.Output(ctx, "exec sh", []byte(script))
	if err != nil {
		return nil, fmt.Errorf("looking for processes on %s: %w", machine, err)
	}
	var found []executor.Leftover
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) != 3 || !plain(f[1]) {
			continue
		}
		l := executor.Leftover{Kind: "process", ID: machine + "/" + f[0], Claim: claimOf(machine, f[1])}
		if s, err := strconv.ParseInt(f[2], 10, 64); err == nil {
			l.Since = time.Unix(s, 0)
		}
		found = append(found, l)
	}
	return found, nil
}
