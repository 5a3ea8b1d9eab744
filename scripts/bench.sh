#!/usr/bin/env bash
# Runs the benchmarks and keeps the result in .cache/bench/new.txt. BENCH selects
# by name, COUNT repeats, PACKAGES limits, BASE names an earlier result to compare with.
# The packages run one after another; ./test/bench, the whole program, takes some minutes.
set -euo pipefail
cd "$(dirname "$0")/.."

mkdir -p .cache/bench
# shellcheck disable=SC2086 # PACKAGES is a list.
go test -run '^$' -bench "${BENCH:-.}" -benchmem -timeout 2h -count "${COUNT:-1}" ${PACKAGES:-./...} |
  grep -v 'no test files' | tee .cache/bench/new.txt
if [[ -n ${BASE:-} ]]; then
  "$(scripts/tool.sh benchstat)" "$BASE" .cache/bench/new.txt
fi
