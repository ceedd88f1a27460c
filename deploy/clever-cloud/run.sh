#!/bin/sh
# Runs the application (CC_RUN_COMMAND, or npm start): Uptime Kuma below the replicator, which
# brings the database back before Kuma's first start, and streams it from then on.
set -eu
. "$(dirname "$0")/settings.sh"
export_settings
[ -x "$REPLICATOR_BIN/replicator" ] || die "there is no $REPLICATOR_BIN/replicator: run build.sh"
mkdir -p "$DATA_DIR"
exec "$REPLICATOR_BIN/replicator" run "$@"
