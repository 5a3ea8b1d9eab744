#!/usr/bin/env bash
# Builds the helper image with image.sh and loads it into the engine that docker
# reaches; no registry is involved.
#   helper-image.sh [-u] [-o FILE]
# -u fetches the packages again; -o keeps the archive for `docker load`.
set -euo pipefail
cd "$(dirname "$0")/.."

image=$(sed -n 's/^const HelperImage = "\(.*\)"$/\1/p' internal/executor/docker/helper.go)
fresh="" out=""
while getopts uo: option; do
  case $option in
    u) fresh=1 ;;
    o) out=$OPTARG ;;
    *) exit 2 ;;
  esac
done

if ! command -v docker >/dev/null; then
  echo "helper-image.sh: docker is missing (Debian: docker.io)" >&2
  exit 3
fi
docker version --format '{{.Server.Version}}' >/dev/null

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
FRESH=$fresh scripts/image.sh helper "${out:-$work/helper.tar}"
docker load --quiet --input "${out:-$work/helper.tar}" >/dev/null
echo "helper-image.sh: the engine has $image ($(docker image inspect --format '{{.Size}}' "$image") bytes)" >&2
