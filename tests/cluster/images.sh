#!/usr/bin/env bash
# Builds the images of the cluster tier and gives them to the cluster's nodes.
#
#   tests/cluster/images.sh [COMMAND…]
#
# COMMAND is called with the path of a `docker save` archive and makes its images known to the nodes, for example
# `kind load image-archive` or `k3d image import`. Without it the images are only built.
#
#   PYTHON_IMAGE        base of the images (default: the Dockerfile's)
#   EXPANSION_IMAGES    what comes before operator, trainer, model-sync and model-server (default localhost/expansion-)
#   EXPANSION_TAG       (default dev)
set -euo pipefail
cd "$(dirname "$0")/../.."
prefix=${EXPANSION_IMAGES:-localhost/expansion-}
tag=${EXPANSION_TAG:-dev}
build() { docker build --quiet --network host "$@" . >/dev/null; }

names=()
for target in operator model-sync trainer; do
  echo "building $target (TensorFlow makes the first build of trainer take minutes) ..." >&2
  build --target "$target" ${PYTHON_IMAGE:+--build-arg "PYTHON_IMAGE=$PYTHON_IMAGE"} --tag "$prefix$target:$tag"
  names+=("$prefix$target:$tag")
done
echo "building model-server, the stand-in ..." >&2
build --file tests/cluster/model-server.Dockerfile --build-arg "TRAINER_IMAGE=${prefix}trainer:$tag" --tag "${prefix}model-server:$tag"
names+=("${prefix}model-server:$tag")

if [ $# -gt 0 ]; then
  archive=$(mktemp --suffix .tar)
  trap 'rm -f "$archive"' EXIT
  docker save --output "$archive" "${names[@]}"
  echo "loading $(du -h "$archive" | cut -f1) ..." >&2
  # containerd may clean up layers of the images that these replace while it unpacks them: "parent snapshot … does not exist".
  "$@" "$archive" >&2 || "$@" "$archive" >&2
fi
printf '%s\n' "${names[@]}"
