#!/usr/bin/env bash
# Prints the path of azurite-blob, Microsoft's emulator of Azure Blob Storage,
# installing it with npm when it is not in the cache.
set -euo pipefail

version=3.37.0
cache=${GLASSRUNNER_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/glassrunner/tools}
dir=$cache/azurite-$version
out=$dir/node_modules/.bin/azurite-blob

if [[ ! -x $out ]]; then
  echo "azurite.sh: installing Azurite $version; this happens once" >&2
  mkdir -p "$cache"
  tmp=$(mktemp -d "$dir.XXXXXX")
  trap 'rm -rf "$tmp"' EXIT
  npm install --prefix "$tmp" --no-save --no-audit --no-fund --ignore-scripts --loglevel error "azurite@$version" >&2
  rm -rf "$dir"
  mv "$tmp" "$dir"
  trap - EXIT
fi
echo "$out"
