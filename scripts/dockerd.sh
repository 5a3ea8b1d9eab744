#!/usr/bin/env bash
# A Docker engine of the tests' own:
#   dockerd.sh start DIR   starts it and prints lines for eval
#   dockerd.sh kill DIR    kills the engine alone: containers, images and volumes
#                          stay, as after a crash, until start starts it again
#   dockerd.sh stop DIR    ends and removes everything
#
# It lives in a network namespace of its own, so that neither another engine on
# this machine nor the machine's firewall notice it. A veth pair joins the two:
# containers reach this machine at the address in DIR/host, and nothing beyond.
# The engine listens on DIR/docker.sock and, with TLS, on port 2376; DIR/tls has a
# client's certificates. start installs Debian's docker.io when it is missing.
# Without the rights that it needs it says so and exits with 3.
set -euo pipefail

usage() {
  echo "usage: $0 start|kill|stop DIR" >&2
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

# certificates makes an authority, and what it certifies: the engine and a client.
certificates() {
  local name tls=$dir/tls key=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)
  mkdir -p "$tls/engine"
  openssl req -x509 "${key[@]}" -days 30 -subj /CN=authority -keyout "$tls/ca-key.pem" -out "$tls/ca.pem" &&
    for name in engine client; do
      openssl req "${key[@]}" -subj "/CN=$name" -keyout "$tls/$name-key.pem" -out "$tls/$name.csr" &&
        openssl x509 -req -days 30 -in "$tls/$name.csr" -CA "$tls/ca.pem" -CAkey "$tls/ca-key.pem" -CAcreateserial \
          -extfile <(echo "subjectAltName=IP:$inside") -out "$tls/$name.pem" || return 1
    done &&
    mv "$tls/engine-key.pem" "$tls/engine.pem" "$tls/engine" &&
    mv "$tls/client-key.pem" "$tls/key.pem" && mv "$tls/client.pem" "$tls/cert.pem"
}

start() {
  local pid flags=()
  if [[ -S $dir/docker.sock ]] && alive; then
    say
    return
  fi
  [[ $(id -u) -eq 0 ]] || leave_out "not root"
  if ! command -v dockerd >/dev/null || ! command -v ip >/dev/null || ! command -v openssl >/dev/null; then
    [[ -z ${NO_INSTALL:-} ]] || leave_out "docker.io is missing and NO_INSTALL is set"
    command -v apt-get >/dev/null || leave_out "docker.io is missing and there is no apt-get"
    DEBIAN_FRONTEND=noninteractive
    export DEBIAN_FRONTEND
    {
      apt-get -q -o DPkg::Lock::Timeout=300 update
      apt-get -q -o DPkg::Lock::Timeout=300 install -y --no-install-recommends docker.io iproute2 iptables openssl
    } >"$dir/apt.log" 2>&1 </dev/null || {
      cat "$dir/apt.log" >&2
      leave_out "docker.io cannot be installed"
    }
  fi
  # What is there belongs to an engine that was killed.
  [[ -f $dir/host && -e /var/run/netns/$space ]] || prepare
  limited && flags+=(--add-runtime "limited=$dir/runc" --default-runtime limited)
  # nsenter and not ip netns exec, which hides the control groups.
  nsenter --net="/var/run/netns/$space" dockerd \
    --data-root "$dir/data" --exec-root "$dir/exec" --pidfile "$dir/pid" -H "unix://$dir/docker.sock" \
    -H "tcp://$inside:2376" --tlsverify --tlscacert "$dir/tls/ca.pem" --tlscert "$dir/tls/engine/engine.pem" --tlskey "$dir/tls/engine/engine-key.pem" \
    --default-address-pool base=172.20.0.0/14,size=24 --default-address-pool base=fd00:6772::/104,size=112 \
    --insecure-registry "$host/32" "${flags[@]}" >>"$dir/log" 2>&1 </dev/null &
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

# prepare makes what an engine needs.
prepare() {
  stop
  rm -f "$dir/log"
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
  certificates >"$dir/openssl.log" 2>&1 || {
    cat "$dir/openssl.log" >&2
    stop
    leave_out "no certificates can be made"
  }
  ! limited || wrapper
  echo "$host" >"$dir/host"
}

# alive says whether the engine answers.
alive() { docker -H "unix://$dir/docker.sock" version >/dev/null 2>&1; }

# say prints what the tests want to know.
say() {
  echo "export GLASSRUNNER_TEST_DOCKER=unix://$dir/docker.sock"
  echo "export GLASSRUNNER_TEST_DOCKER_HOST=$(cat "$dir/host")"
  echo "export GLASSRUNNER_TEST_DOCKER_TLS=tcp://$inside:2376"
  echo "export GLASSRUNNER_TEST_DOCKER_CERTS=$dir/tls"
}

# engine prints the engine's process, if it runs.
engine() {
  local pid
  if [[ -f $dir/pid ]]; then
    pid=$(cat "$dir/pid")
    if [[ -n $pid ]] && grep -aqs -- "$dir/docker.sock" "/proc/$pid/cmdline"; then
      echo "$pid"
    fi
  fi
}

crash() {
  local pid
  pid=$(engine)
  if [[ -z $pid ]]; then
    echo "no engine runs in $dir" >&2
    exit 1
  fi
  kill -9 "$pid"
  for _ in $(seq 100); do
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.1
  done
  rm -f "$dir/pid"
}

stop() {
  local pid
  pid=$(engine)
  if [[ -n $pid ]]; then
    kill "$pid" 2>/dev/null || true
    for _ in $(seq 150); do
      kill -0 "$pid" 2>/dev/null || break
      sleep 0.1
    done
    kill -9 "$pid" 2>/dev/null || true
  fi
  # What a killed engine left: containerd, its shims, and their containers.
  grep -als -- "$dir/exec[/]" /proc/[0-9]*/cmdline | cut -d/ -f3 | while read -r pid; do
    {
      xargs -r kill -9 <"/proc/$pid/task/$pid/children"
      kill -9 "$pid"
    } 2>/dev/null || true
  done || true
  if [[ -e /var/run/netns/$space ]]; then
    ip netns del "$space" || true
  fi
  ip link del "$space" 2>/dev/null || true
  grep -oE " $dir/(data|exec)[^ ]*" /proc/mounts | sort -r | xargs -r umount -l || true
  rm -rf "$dir/data" "$dir/exec" "$dir/pid" "$dir/docker.sock" "$dir/host" "$dir/runc" "$dir/tls"
}

case $1 in
  start) start ;;
  kill) crash ;;
  stop) stop ;;
  *) usage ;;
esac
