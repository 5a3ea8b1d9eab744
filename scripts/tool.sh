#!/usr/bin/env bash
# Prints the path of a development tool, building it when it is not in the
# cache: tool.sh NAME. A tool is pinned by a `tool` line of tools/*/go.mod; its
# name is the last part of its package, or a comment at the end of that line.
# tools/*/ldflags has the linker flags of programs that are told their version:
# VERSION, MAJOR and MINOR stand for it. The cache lies outside of the checkout,
# so that a fresh clone need not build again; its key is the tool's module
# version, its module's go.sum, own code and flags, and Go.
set -euo pipefail

name=${1:?usage: tool.sh NAME}
root=$(cd "$(dirname "$0")/.." && pwd)

# package_of prints the package that a go.mod's tool line gives for the name.
package_of() {
  awk -v name="$name" '
    { said = ""; if (i = index($0, "//")) { said = substr($0, i + 2); gsub(/[ \t]/, "", said); $0 = substr($0, 1, i - 1) } }
    $1 == "tool" && $2 != "(" { p = $2 }
    $1 == "tool" && $2 == "(" { block = 1; next }
    $1 == ")" { block = 0 }
    block { p = $1 }
    p != "" { n = split(p, part, "/"); if ((said == "" ? part[n] : said) == name) { print p; exit } p = "" }' "$1"
}

# version_of prints the version of the module with the longest path that holds the package.
version_of() {
  awk -v package="$2" '
    $1 == "require" && $2 != "(" { $1 = $2; $2 = $3 }
    $2 ~ /^v[0-9]/ && index(package "/", $1 "/") == 1 && length($1) > length(best) { best = $1; version = $2 }
    END { print version }' "$1"
}

for mod in "$root"/tools/*/go.mod; do
  package=$(package_of "$mod")
  [[ -n $package ]] && break
done
if [[ -z $package ]]; then
  echo "tool.sh: no tools/*/go.mod has a tool line for $name" >&2
  exit 1
fi
dir=$(dirname "$mod")

cache=${GLASSRUNNER_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/glassrunner/tools}
if ! mkdir -p "$cache" 2>/dev/null || [[ ! -w $cache ]]; then
  cache=$root/.cache/tools
  mkdir -p "$cache"
fi
sum=$(find "$dir" -maxdepth 1 \( -name go.sum -o -name '*.go' -o -name ldflags \) -print0 | LC_ALL=C sort -z | xargs -0 cat | cksum)
version=$(version_of "$mod" "$package")
out=$cache/$name-$version-$(go env GOVERSION)-${sum%% *}

if [[ ! -x $out ]]; then
  echo "tool.sh: building $(basename "$out"); this happens once" >&2
  flags="-s -w"
  if [[ -f $dir/ldflags ]]; then
    IFS=. read -r major minor _ <<<"${version#v}"
    flags+=" $(sed "s/VERSION/${version#v}/; s/MAJOR/$major/; s/MINOR/$minor/" "$dir/ldflags" | paste -sd' ')"
  fi
  tmp=$(mktemp "$out.XXXXXX")
  trap 'rm -f "$tmp"' EXIT
  (cd "$dir" && env -u GOOS -u GOARCH CGO_ENABLED=0 go build -trimpath -ldflags "$flags" -o "$tmp" "$package") >&2
  chmod 755 "$tmp"
  mv -f "$tmp" "$out"
  trap - EXIT
fi
echo "$out"
