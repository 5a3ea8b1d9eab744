# The first process of a container: takes one order after the other from a pipe.
#   run N MODE    carry out script N; MODE "one" joins its two streams
#   stop N GRACE  end script N and all that it left, politely for GRACE tenths of a second
# Script N is $scripts/N.sh; its output goes to $logs/N.out and N.err. N.code says how
# it ended: exit code, processes that the kernel killed for memory, and what the
# container used so far (see usage). An order that comes twice is carried out once.
name=$1 scripts=$2 logs=$3 mask=$4 root=$5
shift 5
trap 'exit 0' TERM
shell=
for s; do
  if [ -x "$s" ]; then
    shell=$s
    break
  fi
done

# field FILE KEY: the number after KEY in a file of the control group.
field() {
  while read -r key value; do
    if [ "$key" = "$2" ]; then
      echo "$value"
      return
    fi
  done <"$1"
} 2>/dev/null

number() { { read -r value <"$1" && echo "$value"; } 2>/dev/null; }

oom() {
  n=$(field /sys/fs/cgroup/memory.events oom_kill)
  [ -n "$n" ] || n=$(field /sys/fs/cgroup/memory/memory.oom_control oom_kill)
  echo "${n:-0}"
}

# usage: CPU time in microseconds, peak of memory in bytes, throttled time in
# microseconds; - for what the kernel does not say.
usage() {
  cpu=$(field /sys/fs/cgroup/cpu.stat usage_usec)
  throttled=$(field /sys/fs/cgroup/cpu.stat throttled_usec)
  peak=$(number /sys/fs/cgroup/memory.peak)
  if [ -z "$cpu" ]; then
    cpu=$(number /sys/fs/cgroup/cpuacct/cpuacct.usage)
    [ -z "$cpu" ] || cpu=$((cpu / 1000))
    throttled=$(field /sys/fs/cgroup/cpu/cpu.stat throttled_time)
    [ -z "$throttled" ] || throttled=$((throttled / 1000))
    peak=$(number /sys/fs/cgroup/memory/memory.max_usage_in_bytes)
  fi
  echo "${cpu:--} ${peak:--} ${throttled:--}"
}

# end N CODE OOM: tells how script N ended, unless that was told.
end() {
  [ ! -e "$logs/$1.code" ] || return 0
  (umask 0; echo "$2 $3 $(usage)" >"$logs/$1.code.new.$2") && mv -f "$logs/$1.code.new.$2" "$logs/$1.code"
  echo >&4
}

launch() {
  trap - TERM
  exec 3<&-
  (umask 0; : >>"$logs/$1.out"; : >>"$logs/$1.err")
  if [ -z "$shell" ]; then
    echo 'shell not found' >>"$logs/$1.err"
    end "$1" 1 0
    return
  fi
  before=$(oom)
  exec 5<"$scripts/$1.sh"
  rm -f "$scripts/$1.sh"
  [ -z "$mask" ] || umask "$mask"
  if [ "$2" = one ]; then
    "$shell" <&5 >>"$logs/$1.out" 2>&1 4>&- 5<&-
  else
    "$shell" <&5 >>"$logs/$1.out" 2>>"$logs/$1.err" 4>&- 5<&-
  fi
  code=$?
  exec 5<&-
  end "$1" $code $(($(oom) - before))
}

# parent PID: sets state and up.
parent() {
  { read -r line <"/proc/$1/stat"; } 2>/dev/null || return 1
  set -- ${line##*)}
  state=$1 up=$2
}

# mine PID: is it below root, and neither this process nor one above it?
mine() {
  case " $spared " in *" $1 "*) return 1 ;; esac
  parent "$1" || return 1
  [ "$state" != Z ] || return 1
  while [ "$up" -gt 0 ] 2>/dev/null; do
    [ "$up" != "$self" ] || return 1
    [ "$up" != "$root" ] || return 0
    parent "$up" || return 1
  done
  return 1
}

halt() {
  trap - TERM
  exec 3<&-
  read -r self rest </proc/self/stat
  [ -n "$root" ] || root=$$
  spared="$$ $self" up=$$
  while [ "$up" -gt 1 ] && parent "$up"; do spared="$spared $up"; done
  told=' ' hard= waited=0
  while :; do
    found=
    for p in /proc/[0-9]*; do
      p=${p#/proc/}
      mine "$p" || continue
      found=1
      if [ -n "$hard" ]; then
        kill -KILL "$p" 2>/dev/null
        continue
      fi
      # What is born while others are told is told in the next round.
      case $told in *" $p "*) continue ;; esac
      told="$told$p "
      kill -TERM "$p" 2>/dev/null
    done
    [ -n "$found" ] && [ "$waited" -lt $(($2 + 100)) ] || break
    [ "$waited" -lt "$2" ] || hard=1
    if sleep 0.1 2>/dev/null; then waited=$((waited + 1)); else sleep 1; waited=$((waited + 10)); fi
  done
  end "$1" 143 0
}

exec 3<>"$scripts/$name" 4<>"$logs/end.$name"
last=0
while read -r order number argument <&3; do
  case $order in
    run)
      if [ "$number" -gt "$last" ]; then
        last=$number
        launch "$number" "$argument" &
      fi
      ;;
    stop)
      # A script that is not here yet will not begin any more.
      [ "$number" -le "$last" ] || last=$number
      halt "$number" "$argument" &
      ;;
  esac
done
