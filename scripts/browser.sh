#!/usr/bin/env bash
# Prints the directory with the Node modules of the browser tests, installing
# them when they are not in the cache. They are pinned by tools/browser; the
# cache's key is the lock file's sum. Nothing of them runs at installation.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
lock=$root/tools/browser/package-lock.json

cache=${GLASSRUNNER_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/glassrunner/tools}
if ! mkdir -p "$cache" 2>/dev/null || [[ ! -w $cache ]]; then
  cache=$root/.cache/tools
  mkdir -p "$cache"
fi
sum=$(cksum <"$lock")
out=$cache/browser-${sum%% *}

if [[ ! -d $out ]]; then
  echo "browser.sh: installing $(basename "$out"); this happens once" >&2
  tmp=$(mktemp -d "$out.XXXXXX")
  trap 'rm -rf "$tmp"' EXIT
  cp "$root"/tools/browser/package.json "$lock" "$tmp"
  (cd "$tmp" && npm ci --ignore-scripts --no-audit --no-fund) >&2
  chmod 755 "$tmp"
  mv "$tmp" "$out"
  trap - EXIT
fi
echo "$out"
