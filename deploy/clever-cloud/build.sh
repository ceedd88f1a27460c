#!/bin/sh
# Builds the application: Uptime Kuma, restic, and the replicator with Litestream, below APP_HOME.
# npm runs it (package.json, «install»). It may run again and begins anew.
set -eu
. "$(dirname "$0")/settings.sh"

# restic's own release file, and its sum, as in the Dockerfile.
RESTIC_VERSION=0.18.1
: "${RESTIC_SHA256:=680838f19d67151adba227e1570cdd8af12c19cf1735783ed1ba928bc41f363d}"
: "${RESTIC_URL:=https://github.com/restic/restic/releases/download/v$RESTIC_VERSION/restic_${RESTIC_VERSION}_linux_amd64.bz2}"
# Kuma's sources of a version; or an archive that has node_modules and dist already.
: "${UPTIME_KUMA_URL:=https://github.com/louislam/uptime-kuma/archive/refs/tags/$UPTIME_KUMA_VERSION.tar.gz}"
# The clone that this folder is a part of.
: "${REPLICATOR_SOURCE:=$(cd "$(dirname "$0")/../.." && pwd)}"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

say "Uptime Kuma $UPTIME_KUMA_VERSION"
curl -fsSL --retry 3 -o "$scratch/kuma.tar.gz" "$UPTIME_KUMA_URL"
rm -rf "$KUMA_DIR"
mkdir -p "$KUMA_DIR"
tar -xzf "$scratch/kuma.tar.gz" -C "$KUMA_DIR" --strip-components=1
[ -f "$KUMA_DIR/server/server.js" ] || die "$UPTIME_KUMA_URL has no server/server.js"
if [ ! -d "$KUMA_DIR/node_modules" ]; then
    (cd "$KUMA_DIR" && npm ci --omit=dev --no-audit && npm run download-dist)
fi

say "restic $RESTIC_VERSION"
curl -fsSL --retry 3 -o "$scratch/restic.bz2" "$RESTIC_URL"
echo "$RESTIC_SHA256  $scratch/restic.bz2" | sha256sum -c - >/dev/null ||
    die "$RESTIC_URL has another SHA-256 than RESTIC_SHA256"
mkdir -p "$(dirname "$RESTIC")"
bunzip2 -c "$scratch/restic.bz2" >"$RESTIC"
chmod 755 "$RESTIC"

say "the replicator, from $REPLICATOR_SOURCE"
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    die "$(python3 --version) is too old: 3.11 or later is needed (CC_PYTHON_VERSION)"
rm -rf "$APP_HOME/replicator"
python3 -m venv "$APP_HOME/replicator"
"$REPLICATOR_BIN/pip" install -q --disable-pip-version-check \
    "replicator-kuma[litestream,notify,web] @ file://$REPLICATOR_SOURCE"
"$REPLICATOR_BIN/replicator" --version >&2
