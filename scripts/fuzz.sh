#!/usr/bin/env bash
# Runs every fuzz target for FUZZTIME each, one after another (the fuzzer runs
# one target at a time). PACKAGES limits the packages: make fuzz PACKAGES=./internal/config.
set -euo pipefail
cd "$(dirname "$0")/.."

# shellcheck disable=SC2086 # PACKAGES is a list.
targets=$(grep -rEo --include='*_test.go' --exclude-dir=tools --exclude-dir=testdata \
  '^func Fuzz[A-Za-z0-9_]*' ${PACKAGES:-.} | sort) || true
if [[ -z $targets ]]; then
  echo "!! no fuzz target was found in ${PACKAGES:-the tree}"
  exit 1
fi

found=0
while IFS=: read -r file target; do
  target=${target#func }
  found=$((found + 1))
  dir=$(dirname "${file#./}")
  printf -- '-- %s %s\n' "$dir" "$target"
  # The default is to spend up to a minute on making each new input smaller: of
  # ten seconds nothing is left for fuzzing.
  go test -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZTIME:-10s}" -fuzzminimizetime 20x "./$dir" </dev/null
done <<<"$targets"
echo "$found fuzz targets ran"
