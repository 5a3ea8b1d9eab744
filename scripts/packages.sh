#!/usr/bin/env bash
# Installs the Debian packages of packages.txt that are missing. Without the
# right to do so it names them and what is left out; it fails only when an
# installation that it began fails.
set -euo pipefail

list=$(dirname "$0")/packages.txt
missing=()
report=""
while read -r package probe without; do
  case $package in '' | '#'*) continue ;; esac
  if [[ $probe == /* ]] && [[ -e $probe ]]; then continue; fi
  if [[ $probe != /* ]] && command -v "$probe" >/dev/null; then continue; fi
  missing+=("$package")
  report+="  $package is missing. Left out: $without."$'\n'
done <"$list"

if [[ ${#missing[@]} -eq 0 ]]; then
  echo "every package is there"
  exit 0
fi

reason=""
if [[ -n ${NO_INSTALL:-} ]]; then
  reason="NO_INSTALL is set"
elif [[ $(id -u) -ne 0 ]]; then
  reason="not root"
elif ! command -v apt-get >/dev/null; then
  reason="no apt-get here"
fi
if [[ -n $reason ]]; then
  printf '!! nothing is installed (%s), so the result says less:\n%s' "$reason" "$report"
  exit 0
fi

echo "installing: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt() {
  # A lock that another apt-get holds is worth waiting for.
  if ! apt-get -q -o DPkg::Lock::Timeout=300 "$@" >"$log" 2>&1 </dev/null; then
    cat "$log"
    echo "!! apt-get $1 failed"
    return 1
  fi
}
apt update
apt install -y --no-install-recommends "${missing[@]}"
