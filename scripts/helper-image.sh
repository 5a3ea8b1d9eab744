#!/usr/bin/env bash
# Builds the helper image from Debian packages and this checkout and loads it
# into the engine that docker reaches; no registry is involved.
#   helper-image.sh [-u] [-o FILE]
# -u fetches the packages again; -o writes an archive for `docker load` too.
# The packages are kept in GLASSRUNNER_IMAGES (~/.cache/glassrunner/images).
set -euo pipefail
cd "$(dirname "$0")/.."

image=$(sed -n 's/^const HelperImage = "\(.*\)"$/\1/p' internal/executor/docker/helper.go)
release=bookworm
fresh="" out=""
while getopts uo: option; do
  case $option in
    u) fresh=1 ;;
    o) out=$OPTARG ;;
    *) exit 2 ;;
  esac
done

for command in docker mmdebstrap go; do
  if ! command -v "$command" >/dev/null; then
    echo "helper-image.sh: $command is missing (Debian: docker.io, mmdebstrap)" >&2
    exit 3
  fi
done
docker version --format '{{.Server.Version}}' >/dev/null

cache=${GLASSRUNNER_IMAGES:-${XDG_CACHE_HOME:-$HOME/.cache}/glassrunner/images}
mkdir -p "$cache"
packages=$(paste -sd, deploy/images/helper/packages.txt)
arch=$(dpkg --print-architecture)
base=$cache/helper-$release-$arch-$(cksum <<<"$packages" | cut -d' ' -f1).tar

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if [[ ! -f $base || -n $fresh ]]; then
  echo "helper-image.sh: fetching $packages for $arch; this takes a few minutes, once" >&2
  mmdebstrap --quiet --variant=essential --include="$packages" \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/info/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/i18n/*' \
    "$release" "$base.new.tar"
  mv -f "$base.new.tar" "$base"
fi

mkdir -p "$work/usr/bin"
CGO_ENABLED=0 go build -trimpath -ldflags "$(scripts/ldflags.sh)" -o "$work/usr/bin/glassrunner-helper" ./cmd/glassrunner-helper
ln -s glassrunner-helper "$work/usr/bin/gitlab-runner-helper"
printf '#!/bin/sh\numask 0000\nexec bash "$@"\n' >"$work/usr/bin/gitlab-runner-build"
chmod 755 "$work/usr/bin/"*

{
  # An archive ends with two empty blocks, so tar itself has to join the two.
  # The engine refuses a path that is there twice, directories too.
  cp "$base" "$work/image.tar"
  tar --append --file "$work/image.tar" --owner=0 --group=0 --numeric-owner -C "$work" \
    usr/bin/glassrunner-helper usr/bin/gitlab-runner-helper usr/bin/gitlab-runner-build
  docker import --change 'CMD ["/bin/bash"]' --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
    --message "glassrunner helper" "$work/image.tar" "$image"
} >/dev/null
echo "helper-image.sh: the engine has $image ($(docker image inspect --format '{{.Size}}' "$image") bytes)" >&2

if [[ -n $out ]]; then
  docker save -o "$out" "$image"
fi
