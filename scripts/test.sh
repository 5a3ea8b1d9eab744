#!/usr/bin/env bash
# Runs checks: test.sh [STEP...]. Without a step all of them, quick ones first;
# the first failure ends the run. What a step does is said at its function.
set -euo pipefail
cd "$(dirname "$0")/.."

all=(packages format modules scripts vet docs mixin cross lint vulnerabilities unit e2e browser kubernetes)

# surroundings makes the result depend on the checkout alone. HOME is a
# directory of its own, because jobs start login shells and git, and a person's
# start-up files and git settings are none of their business; Go's own
# directories stay where they are.
surroundings() {
  local name
  for name in GOPATH GOMODCACHE GOCACHE GOENV GOFLAGS; do
    export "$name=$(go env "$name")"
  done
  # The version comes from the linker flags; a checkout that belongs to another user cannot be stamped.
  export GOFLAGS="${GOFLAGS:+$GOFLAGS }-buildvcs=false"
  export GLASSRUNNER_TOOLS=${GLASSRUNNER_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/glassrunner/tools}
  export GLASSRUNNER_IMAGES=${GLASSRUNNER_IMAGES:-${XDG_CACHE_HOME:-$HOME/.cache}/glassrunner/images}
  export GOLANGCI_LINT_CACHE=${GOLANGCI_LINT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/golangci-lint}
  export LC_ALL=C.UTF-8

  # A CI job's own variables, and those of a git hook, would be read as ours.
  for name in $(compgen -e); do
    case $name in
      CI_* | GITLAB_* | RUNNER_* | REGISTER_* | FF_* | LISTEN_ADDRESS | CONFIG_FILE | BASH_ENV | ENV) unset "$name" ;;
    esac
  done
  for name in $(git rev-parse --local-env-vars); do
    unset "$name"
  done

  home=$(mktemp -d)
  export HOME=$home
  # Or go leaves a process behind that writes into HOME when the run is over.
  mkdir -p "$home/.config/go/telemetry"
  echo off >"$home/.config/go/telemetry/mode"
  unset XDG_CONFIG_HOME XDG_CACHE_HOME XDG_DATA_HOME XDG_STATE_HOME
}

# finish ends every run. On success it prints nothing: the last words are go test's.
finish() {
  local code=$?
  if [[ -n ${engine_dir:-} ]]; then
    scripts/dockerd.sh stop "$engine_dir" || true
    rm -rf "$engine_dir" || true
  fi
  if [[ -n ${cluster_dir:-} ]]; then
    scripts/cluster.sh stop "$cluster_dir" || true
    rm -rf --one-file-system "$cluster_dir" || true
  fi
  if [[ -n ${home:-} ]]; then
    chmod -R u+w "$home" || true
    rm -rf "$home" || true
  fi
  if [[ $code -ne 0 ]]; then
    printf '\n!! FAILED in step %s after %s s\n' "${step:-start}" "$SECONDS"
  fi
  exit "$code"
}

# files prints the files that git does not ignore, each ended by a zero byte.
files() {
  local file
  git ls-files --cached --others --exclude-standard -z -- "$@" | sort -zu | while IFS= read -rd '' file; do
    [[ ! -f $file ]] || printf '%s\0' "$file"
  done
}

tool() { scripts/tool.sh "$1"; }

# go_test runs packages through gotestsum, which prints go test's own lines and
# then lists every skipped test with its reason: go test alone hides them.
go_test() {
  "$(tool gotestsum)" --format standard-quiet -- -count=1 "$@"
}

# packages installs what packages.txt lists and this machine lacks.
step_packages() { scripts/packages.sh; }

# format: gofmt -s leaves no Go file to change.
step_format() {
  local files
  files=$(files '*.go' ':!*/testdata/*' | xargs -0 -r gofmt -s -l)
  if [[ -n $files ]]; then
    printf 'run make fmt; gofmt -s would change:\n%s\n' "$files"
    return 1
  fi
}

# modules: go.mod says exactly what the code imports, and the downloads are what go.sum recorded.
step_modules() {
  go mod tidy -diff
  go mod verify
}

# scripts: shellcheck finds nothing in the project's own shell scripts.
step_scripts() {
  if ! command -v shellcheck >/dev/null; then
    echo "!! shellcheck is missing: the scripts are not checked"
    return
  fi
  shellcheck .ci/run scripts/*.sh
}

step_vet() { go vet ./...; }

# docs: generating again leaves every file as it is.
step_docs() {
  local before after
  go -C tools/chart test -count=1 ./...
  before=$(tree)
  go generate ./...
  after=$(tree)
  if [[ $before != "$after" ]]; then
    diff <(echo "$before") <(echo "$after") || true
    echo "generated files were out of date: commit what changed (make docs)"
    return 1
  fi
}

# mixin: rules, dashboards and rule tests are as tools/mixin makes them, and every
# name in them is one that the program emits; promtool's checks and tests pass, and
# a real Prometheus that scrapes the demo answers every query.
step_mixin() {
  go -C tools/mixin mod tidy -diff
  go -C tools/mixin vet ./...
  go -C tools/mixin test -count=1 ./...
  CGO_ENABLED=0 go build -o "$home/glassrunner" ./cmd/glassrunner
  "$home/glassrunner" metrics list --format json >"$home/metrics.json"
  go -C tools/mixin run . check "$PWD" "$home/metrics.json"
  GLASSRUNNER_E2E_BINARY=$home/glassrunner go_test -timeout 5m -run '^TestMixin' ./test/e2e
}

# tree prints a sum of every file.
tree() { files | xargs -0 -r sha256sum; }

# cross: the program builds for other systems.
step_cross() {
  local target
  for target in linux/arm64 darwin/arm64 windows/amd64; do
    echo "$target"
    CGO_ENABLED=0 GOOS=${target%/*} GOARCH=${target#*/} go build -o /dev/null ./cmd/...
  done
}

step_lint() {
  local lint
  lint=$(tool golangci-lint)
  "$lint" config verify
  "$lint" run
  (cd tools/mixin && "$lint" run --config ../../.golangci.yml)
  (cd tools/chart && "$lint" run --config ../../.golangci.yml)
}

# vulnerabilities needs the database of known ones, so it runs only where GOVULNDB says where that is.
step_vulnerabilities() {
  if [[ -z ${GOVULNDB:-} ]]; then
    echo "!! govulncheck is left out: it needs the vulnerability database, and GOVULNDB, its address, is not set"
    return
  fi
  "$(tool govulncheck)" -db "$GOVULNDB" ./...
}

# fuzz: each target briefly, seeds first.
step_fuzz() { FUZZTIME=${FUZZTIME:-3s} scripts/fuzz.sh; }

# engine starts a Docker engine of the tests' own, once a run; finish ends it.
# Where none can be had the tests of Docker are skipped. CI as root has to have one.
engine() {
  local settings
  if [[ ${CI:-} == true && $(id -u) -eq 0 ]]; then
    export GLASSRUNNER_NEED_DOCKER=1
  fi
  if [[ -n ${GLASSRUNNER_TEST_DOCKER:-}$engine_dir ]]; then
    return
  fi
  engine_dir=$(mktemp -d)
  if ! settings=$(scripts/dockerd.sh start "$engine_dir"); then
    without "the tests of the Docker executor need a Docker engine"
    return
  fi
  eval "$settings"
}

# helper_image gives the engine the image of helper containers.
helper_image() {
  engine
  if [[ -n ${GLASSRUNNER_TEST_DOCKER:-} ]] && ! DOCKER_HOST=$GLASSRUNNER_TEST_DOCKER scripts/helper-image.sh; then
    without "whole-program tests with Docker need the helper image, which cannot be built"
  fi
}

# without says what is left out, or ends the run where it must not be.
without() {
  echo "!! $1"
  if [[ -n ${GLASSRUNNER_NEED_DOCKER:-} ]]; then
    return 1
  fi
}

# unit: every package but the whole-program tests and those in a browser. Azurite, with which the
# addresses of Azure are tried, needs Node.
step_unit() {
  if command -v npm >/dev/null; then
    GLASSRUNNER_AZURITE=$(scripts/azurite.sh) || echo "!! Azurite cannot be installed: addresses of Azure are compared with the vendor's only"
    export GLASSRUNNER_AZURITE
  else
    echo "!! npm is missing: addresses of Azure are compared with the vendor's only, not tried on Azurite"
  fi
  local cgo=1 race=(-race) packages
  if ! command -v "${CC:-gcc}" >/dev/null; then
    echo "!! no C compiler: the race detector is left out"
    cgo=0 race=()
  fi
  engine
  packages=$(go list ./...)
  mapfile -t packages < <(grep -v '/test/' <<<"$packages")
  CGO_ENABLED=$cgo go_test "${race[@]}" -shuffle=on -timeout 10m "${packages[@]}"
}

# e2e: whole-program tests, but for those of the step mixin; they build the binary themselves.
# The S3 server and the OpenTelemetry collector are built before the tests' clock runs; they say so when one is missing.
step_e2e() {
  GLASSRUNNER_VERSITYGW=$(tool versitygw) || echo "!! no S3 server: versitygw cannot be built"
  GLASSRUNNER_OTELCOL=$(tool otelcol) || echo "!! no OpenTelemetry collector: otelcol cannot be built"
  export GLASSRUNNER_VERSITYGW GLASSRUNNER_OTELCOL
  helper_image
  go_test -timeout 20m -skip '^TestMixin' ./test/e2e/...
}

# browser: the status page in a real Chromium. Where packages are installed a
# missing browser is an error.
step_browser() {
  local missing=()
  command -v chromium >/dev/null || missing+=(chromium)
  command -v node >/dev/null || missing+=(node)
  command -v npm >/dev/null || missing+=(npm)
  if [[ ${#missing[@]} -gt 0 ]]; then
    echo "!! ${missing[*]} missing: the status page is not tested in a browser"
    [[ $(id -u) -ne 0 || -n ${NO_INSTALL:-} ]]
    return
  fi
  GLASSRUNNER_BROWSER_TOOLS=$(scripts/browser.sh)
  export GLASSRUNNER_BROWSER_TOOLS
  go_test -timeout 10m ./test/browser/...
}

# images: the screenshots of docs/images, made anew.
step_images() {
  GLASSRUNNER_BROWSER_TOOLS=$(scripts/browser.sh)
  export GLASSRUNNER_BROWSER_TOOLS
  go test -count=1 ./test/browser -run '^TestLook$' -images ../../docs/images
}

# kubernetes: the chart and jobs on a real cluster of the tests' own, whose
# programs are built first: that takes 20 minutes on a machine that has none of
# them. CI as root has to have a cluster.
step_kubernetes() {
  local settings image
  if [[ ${CI:-} == true && $(id -u) -eq 0 ]]; then
    export GLASSRUNNER_NEED_KUBERNETES=1
  fi
  if [[ $(id -u) -ne 0 ]]; then
    no_cluster "not root"
    return
  fi
  cluster_dir=$(mktemp -d)
  if ! settings=$(scripts/cluster.sh start "$cluster_dir"); then
    no_cluster "none can be started, see above"
    return
  fi
  eval "$settings"
  GLASSRUNNER_TEST_HELM=$(tool helm)
  GLASSRUNNER_TEST_CRDS=$(go -C tools/crds mod download -json github.com/prometheus-operator/prometheus-operator |
    awk -F'"' '$2 == "Dir" { print $4 }')/example/prometheus-operator-crd
  export GLASSRUNNER_TEST_HELM GLASSRUNNER_TEST_CRDS
  for image in busybox helper runner; do
    scripts/image.sh "$image" "$cluster_dir/$image.tar"
    scripts/cluster.sh load "$cluster_dir" "$cluster_dir/$image.tar"
    rm "$cluster_dir/$image.tar"
  done
  go_test -timeout 20m ./internal/executor/kubernetes
  go_test -timeout 20m -run '^TestKubernetes' ./test/e2e
  go_test -timeout 20m ./test/kubernetes/...
}

# no_cluster says that there is no cluster, or ends the run where there has to be one.
no_cluster() {
  echo "!! the chart and the Kubernetes executor are not tested on a cluster: $1"
  [[ -z ${GLASSRUNNER_NEED_KUBERNETES:-} ]]
}

# soak: the long whole-program tests, which `make test` leaves out.
step_soak() {
  if ! grep -rqs '^func TestSoak' test/e2e; then
    echo "!! test/e2e has no TestSoak"
    return 1
  fi
  GLASSRUNNER_SOAK=1 go_test -timeout 60m -run '^TestSoak' ./test/e2e/...
}

steps=("$@")
[[ $# -gt 0 ]] || steps=("${all[@]}")
for step in "${steps[@]}"; do
  if ! declare -F "step_$step" >/dev/null; then
    echo "test.sh: no step $step; there are: ${all[*]} fuzz soak images" >&2
    exit 2
  fi
done

engine_dir="" cluster_dir=""
trap finish EXIT
surroundings
began=0
previous=""
for step in "${steps[@]}"; do
  [[ -z $previous ]] || printf -- '-- %s: %s s\n' "$previous" $((SECONDS - began))
  began=$SECONDS
  previous=$step
  printf '\n== %s (%s s so far)\n' "$step" "$SECONDS"
  "step_$step"
done
