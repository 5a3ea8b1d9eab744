#!/usr/bin/env bash
# A Docker engine of the tests' own: dockerd.sh start DIR, dockerd.sh stop DIR.
#
# It lives in a network namespace of its own, so that neither another engine on
# this machine nor the machine's firewall notice it. A veth pair joins the two:
# containers reach this machine at the address in DIR/host, and nothing beyond.
# start installs Debian's docker.io when it is missing, and prints two lines for
# eval. Without the rights that it needs it says so and exits with 3.
set -euo pipefail

usage() {
  echo "usage: $0 start|stop DIR" >&2
  exit 2
}
[[ $# -eq 2 ]] || usage
mkdir -p "$2"
dir=$(cd "$2" && pwd)
# Names of network devices are short: what is left of the directory's name is a sum.
id=$(cksum <<<"$dir" | cut -d' ' -f1)
id=$(printf '%x' "$id")
space="glr$id"
net=$(((16#$id >> 8) % 256)).$(((16#$id & 63) * 4))
host="10.213.${net%.*}.$((${net#*.} + 1))"
inside="10.213.${net%.*}.$((${net#*.} + 2))"

leave_out() {
  echo "!! no Docker engine: $1" >&2
  exit 3
}

# limited says whether this machine withholds CAP_SYS_RESOURCE from root.
limited() {
  local bounds
  bounds=$(awk '/^CapBnd:/ { print $2 }' /proc/self/status)
  (((16#$bounds >> 24) & 1)) && return 1
  return 0
}

# wrapper writes a runc that asks for no capability that this machine has not.
wrapper() {
  cat >"$dir/runc" <<'WRAPPER'
#!/bin/sh
p=
for a in "$@"; do
  case "$p" in
    --bundle) [ -f "$a/config.json" ] && sed -i -E 's/"CAP_SYS_RESOURCE",?//g; s/,\]/]/g' "$a/config.json" ;;
    --process | -p) [ -f "$a" ] && sed -i -E 's/"CAP_SYS_RESOURCE",?//g; s/,\]/]/g' "$a" ;;
  esac
  p=$a
done
exec runc "$@"
WRAPPER
  chmod 755 "$dir/runc"
}

start() {
  local pid flags=()
  if [[ -S $dir/docker.sock ]] && alive; then
    say
    return
  fi
  [[ $(id -u) -eq 0 ]] || leave_out "not root"
  if ! command -v dockerd >/dev/null || ! command -v ip >/dev/null; then
    [[ -z ${NO_INSTALL:-} ]] || leave_out "docker.io is missing and NO_INSTALL is set"
    command -v apt-get >/dev/null || leave_out "docker.io is missing and there is no apt-get"
    DEBIAN_FRONTEND=noninteractive
    export DEBIAN_FRONTEND
    {
      apt-get -q -o DPkg::Lock::Timeout=300 update
      apt-get -q -o DPkg::Lock::Timeout=300 install -y --no-install-recommends docker.io iproute2 iptables
    } >"$dir/apt.log" 2>&1 </dev/null || {
      cat "$dir/apt.log" >&2
      leave_out "docker.io cannot be installed"
    }
  fi
  stop
  {
    ip netns add "$space" &&
      ip link add "$space" type veth peer name eth0 netns "$space" &&
      ip addr add "$host/30" dev "$space" && ip link set "$space" up &&
      ip -n "$space" addr add "$inside/30" dev eth0 && ip -n "$space" link set eth0 up && ip -n "$space" link set lo up &&
      ip -n "$space" route add default via "$host"
  } || {
    stop
    leave_out "no network namespace can be made here"
  }
  echo "$host" >"$dir/host"
  if limited; then
    wrapper
    flags+=(--add-runtime "limited=$dir/runc" --default-runtime limited)
  fi
  # nsenter and not ip netns exec, which hides the control groups.
  nsenter --net="/var/run/netns/$space" dockerd \
    --data-root "$dir/data" --exec-root "$dir/exec" --pidfile "$dir/pid" -H "unix://$dir/docker.sock" \
    --insecure-registry "$host/32" "${flags[@]}" >"$dir/log" 2>&1 </dev/null &
  pid=$!
  for _ in $(seq 300); do
    if alive; then
      say
      return
    fi
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.1
  done
  tail -n 20 "$dir/log" >&2
  stop
  leave_out "dockerd did not start, see above"
}

# alive says whether the engine answers.
alive() { docker -H "unix://$dir/docker.sock" version >/dev/null 2>&1; }

# say prints what the tests want to know.
say() {
  echo "export GLASSRUNNER_TEST_DOCKER=unix://$dir/docker.sock"
  echo "export GLASSRUNNER_TEST_DOCKER_HOST=$(cat "$dir/host")"
}

stop() {
  local pid
  if [[ -f $dir/pid ]]; then
    pid=$(cat "$dir/pid")
    if [[ -n $pid ]] && grep -aqs -- "$dir/docker.sock" "/proc/$pid/cmdline"; then
      kill "$pid" 2>/dev/null || true
      for _ in $(seq 150); do
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.1
      done
      kill -9 "$pid" 2>/dev/null || true
    fi
  fi
  if [[ -e /var/run/netns/$space ]]; then
    ip netns del "$space" || true
  fi
  ip link del "$space" 2>/dev/null || true
  grep -oE " $dir/(data|exec)[^ ]*" /proc/mounts | sort -r | xargs -r umount -l || true
  rm -rf "$dir/data" "$dir/exec" "$dir/pid" "$dir/docker.sock" "$dir/host" "$dir/runc"
}

case $1 in
  start) start ;;
  stop) stop ;;
  *) usage ;;
esac
