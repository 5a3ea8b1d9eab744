#!/usr/bin/env bash
# Builds one of the project's container images as an archive, without an engine
# and without a registry:
#   image.sh helper|runner|busybox FILE
# `docker load`, `podman load` and `ctr images import` read the archive.
# helper and runner stand on the Debian packages of deploy/images/helper/packages.txt;
# what those make is kept in GLASSRUNNER_IMAGES (~/.cache/glassrunner/images), and
# FRESH=1 fetches them again.
set -euo pipefail

kind=${1:?usage: image.sh helper|runner|busybox FILE}
file=$(realpath -m "${2:?usage: image.sh helper|runner|busybox FILE}")
cd "$(dirname "$0")/.."
release=bookworm
path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

need() {
  command -v "$1" >/dev/null || {
    echo "image.sh: $1 is missing (Debian: $2)" >&2
    exit 3
  }
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/layer" "$work/image"

# base puts the layer of Debian packages first.
base() {
  local cache packages arch kept
  need mmdebstrap mmdebstrap
  cache=${GLASSRUNNER_IMAGES:-${XDG_CACHE_HOME:-$HOME/.cache}/glassrunner/images}
  mkdir -p "$cache"
  packages=$(paste -sd, deploy/images/helper/packages.txt)
  arch=$(dpkg --print-architecture)
  kept=$cache/helper-$release-$arch-$(cksum <<<"$packages" | cut -d' ' -f1).tar
  if [[ ! -f $kept || -n ${FRESH:-} ]]; then
    echo "image.sh: fetching $packages for $arch; this takes a few minutes, once" >&2
    mmdebstrap --quiet --variant=essential --include="$packages" \
      --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
      --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/info/*' \
      --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/i18n/*' \
      "$release" "$kept.new.$$.tar"
    mv -f "$kept.new.$$.tar" "$kept"
  fi
  ln -s "$kept" "$work/image/base.tar"
}

# program builds one of the project's programs into the image's /usr/bin.
program() {
  need go golang
  mkdir -p "$work/layer/usr/bin"
  CGO_ENABLED=0 go build -trimpath -ldflags "$(scripts/ldflags.sh)" -o "$work/layer/usr/bin/$1" "./cmd/$1"
}

# archive writes the image: archive NAME CONFIG, the latter in JSON.
archive() {
  local arch layers="" sums="" layer
  arch=$(go env GOARCH)
  tar -C "$work/layer" --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -cf "$work/image/layer.tar" .
  for layer in base.tar layer.tar; do
    [[ -e $work/image/$layer ]] || continue
    layers+=",\"$layer\""
    sums+=",\"sha256:$(sha256sum <"$work/image/$layer" | cut -d' ' -f1)\""
  done
  printf '{"architecture":"%s","os":"linux","config":%s,"rootfs":{"type":"layers","diff_ids":[%s]}}' \
    "$arch" "$2" "${sums#,}" >"$work/image/config.json"
  printf '[{"Config":"config.json","RepoTags":["%s"],"Layers":[%s]}]' "$1" "${layers#,}" >"$work/image/manifest.json"
  tar -C "$work/image" --dereference -cf "$file.$$" .
  mv -f "$file.$$" "$file"
  echo "image.sh: $file has $1 ($(stat -c %s "$file") bytes)" >&2
}

case $kind in
  helper)
    base
    program glassrunner-helper
    ln -s glassrunner-helper "$work/layer/usr/bin/gitlab-runner-helper"
    printf '#!/bin/sh\numask 0000\nexec bash "$@"\n' >"$work/layer/usr/bin/gitlab-runner-build"
    chmod 755 "$work/layer/usr/bin/"*
    archive "$(sed -n 's/^const HelperImage = "\(.*\)"$/\1/p' internal/executor/docker/helper.go)" \
      '{"Env":["PATH='$path'"],"Cmd":["/bin/bash"]}'
    ;;
  runner)
    base
    program glassrunner
    program glassrunner-helper
    mkdir -p "$work/layer/etc/gitlab-runner" "$work/layer/home/gitlab-runner"
    chmod 1777 "$work/layer/home/gitlab-runner"
    archive glassrunner/glassrunner:latest \
      '{"Env":["PATH='$path'","HOME=/home/gitlab-runner"],"User":"999:999","WorkingDir":"/home/gitlab-runner","Entrypoint":["/usr/bin/glassrunner"],"Cmd":["run"],"StopSignal":"SIGQUIT","ExposedPorts":{"9252/tcp":{}}}'
    ;;
  busybox)
    need busybox busybox-static
    mkdir -p "$work/layer/"{bin,etc,root,tmp,usr/bin}
    cp "$(command -v busybox)" "$work/layer/bin/busybox"
    for applet in $(busybox --list); do
      [[ $applet == busybox ]] || ln -s busybox "$work/layer/bin/$applet"
    done
    ln -s ../../bin/env "$work/layer/usr/bin/env"
    chmod 1777 "$work/layer/tmp"
    echo 'root:x:0:0:root:/root:/bin/sh' >"$work/layer/etc/passwd"
    echo 'root:x:0:' >"$work/layer/etc/group"
    archive glassrunner/busybox:1 '{"Env":["PATH='$path'"],"Cmd":["/bin/sh"]}'
    ;;
  *)
    echo "image.sh: no image $kind" >&2
    exit 2
    ;;
esac
