#!/usr/bin/env bash
# Prints the linker flags of a build. What git does not know stays unset: the
# version package has a word for it. The time is the commit's, not the clock's,
# so that one commit always gives the same bytes.
set -euo pipefail
cd "$(dirname "$0")/.."

package=github.com/glassrunner/glassrunner/internal/version
flags="-s -w"
set_var() {
  [[ -z $2 ]] || flags+=" -X $package.$1=$2"
}
git_says() { git "$@" 2>/dev/null || true; }

version=$(git_says describe --tags --match 'v[0-9]*' --dirty)
branch=${CI_COMMIT_REF_NAME:-$(git_says symbolic-ref --quiet --short HEAD)}
set_var Version "${VERSION:-${version#v}}"
set_var Revision "$(git_says rev-parse --short=8 HEAD)"
set_var Branch "${branch//[^A-Za-z0-9._\/-]/_}"
set_var BuiltAt "$(TZ=UTC0 git_says log -1 --date=format-local:%Y-%m-%dT%H:%M:%SZ --format=%cd)"
echo "$flags"
