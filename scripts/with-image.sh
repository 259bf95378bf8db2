#!/usr/bin/env bash
# Builds the Dockerfile without an engine, then runs a command with RECADO_IMAGE_STORE: the folder of a buildah store
# that holds the image "recado" and its base. Gone afterwards. As root, on Debian.
#
#   scripts/with-image.sh npm run test:file -- deployment/image
set -euo pipefail
cd "$(dirname "$0")/.."

for program in buildah debootstrap; do
  if [ -z "$(command -v "$program")" ]; then
    echo "There is no $program: apt-get install buildah debootstrap haproxy postgresql-15" >&2
    exit 1
  fi
done
store=$(mktemp -d)
# Layers are copied and processes see the host's kernel: it needs no overlay file system and no namespace of its own.
in_store() { buildah --root "$store/root" --runroot "$store/run" --storage-driver vfs "$@"; }
leave() {
  in_store rm --all >/dev/null 2>&1 || true
  # debootstrap mounts the kernel's file systems for a while.
  rm -rf --one-file-system "$store"
}
trap leave EXIT

echo "The base: Debian and this machine's own Node, under the name that the Dockerfile begins with"
base=$(sed -n 's/^FROM \(\S*\)$/\1/p' Dockerfile)
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Codename: bookworm' 'Component: main' |
  grep -m 1 '^http' || true)
debootstrap --variant=minbase --include=ca-certificates bookworm "$store/debian" ${mirror:+"$mirror"} >"$store/log" 2>&1 ||
  { tail -n 20 "$store/log" >&2; exit 1; }
container=$(in_store from scratch)
rootfs=$(in_store mount "$container")
cp -a "$store/debian/." "$rootfs/"
rm -rf "$store/debian"
install -D "$(readlink -f "$(command -v node)")" "$rootfs/usr/local/bin/node"
mkdir -p "$rootfs/usr/local/lib/node_modules"
cp -a "$(npm root --global)/npm" "$rootfs/usr/local/lib/node_modules/npm"
ln -s ../lib/node_modules/npm/bin/npm-cli.js "$rootfs/usr/local/bin/npm"
chroot "$rootfs" groupadd --gid 1000 node
chroot "$rootfs" useradd --uid 1000 --gid node --create-home node
in_store umount "$container" >/dev/null
in_store commit --quiet "$container" "docker.io/library/$base" >/dev/null
in_store rm "$container" >/dev/null

echo "The image"
# How this machine reaches its registry belongs to the machine: it is mounted, and stays out of the image.
cat "$(npm config get userconfig)" "$(npm config get globalconfig)" >"$store/npmrc" 2>/dev/null || true
chmod 600 "$store/npmrc"
in_store bud --isolation chroot --pull-never --format docker --tag recado \
  --volume /etc/ssl/certs:/etc/ssl/certs:ro --volume "$store/npmrc:/root/.npmrc:ro" . >"$store/log" 2>&1 ||
  { tail -n 40 "$store/log" >&2; echo "The image does not build." >&2; exit 1; }
rm "$store/npmrc"

RECADO_IMAGE_STORE="$store" "$@"
