#!/usr/bin/env bash
# Builds a Python base image without an image registry: build.sh IMAGE, then make image BASE=IMAGE
# Needs: mmdebstrap, a Docker engine, root or user namespaces; Debian or a relative. See README.md.
set -euo pipefail
image=${1:?usage: build.sh IMAGE}
release=$(. /etc/os-release && echo "$VERSION_CODENAME")
# The mirror that this machine's apt itself uses.
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Component: main' "Codename: $release" \
  | grep -v security | head -n 1)
[ -n "$mirror" ] || { echo "no Debian mirror for $release in apt's lists: run 'apt-get update' first" >&2; exit 1; }

root=$(mktemp)
trap 'rm -f "$root"' EXIT
mmdebstrap --quiet --format=tar --variant=minbase --include=python3,python3-venv,ca-certificates \
  --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
  --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
  --customize-hook='rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/* "$1"/var/log/*' \
  "$release" "$root" "$mirror"
docker import --message 'Python for tests' --change 'CMD ["python3"]' "$root" "$image"
