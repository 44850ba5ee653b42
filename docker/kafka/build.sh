#!/usr/bin/env bash
# Builds the image of a Kafka broker without an image registry: build.sh IMAGE
# Needs: mmdebstrap, Maven, a Docker engine; Debian or a relative. See README.md.
set -euo pipefail
image=${1:?usage: build.sh IMAGE}
here=$(cd "$(dirname "$0")" && pwd)
release=$(. /etc/os-release && echo "$VERSION_CODENAME")
# The mirror that this machine's apt itself uses.
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Component: main' "Codename: $release" \
  | grep -v security | head -n 1)
[ -n "$mirror" ] || { echo "no Debian mirror for $release in apt's lists: run 'apt-get update' first" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mvn -B -q -Dstyle.color=never -f "$here/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$work/libs"
chmod -R a+rX "$work/libs"
mmdebstrap --quiet --variant=minbase --include=default-jre-headless \
  --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
  --dpkgopt='path-exclude=/usr/share/locale/*' \
  --essential-hook='mkdir -p "$1/usr/share/man/man1"' \
  --customize-hook='mkdir -p "$1/opt/kafka"' \
  --customize-hook="copy-in '$work/libs' '$here/entrypoint.sh' '$here/log4j2.properties' /opt/kafka" \
  --customize-hook='chroot "$1" useradd --system kafka' \
  "$release" "$work/root.tar" "$mirror"
docker import --message 'A Kafka broker for tests' \
  --change 'USER kafka' --change 'ENTRYPOINT ["/opt/kafka/entrypoint.sh"]' "$work/root.tar" "$image"
