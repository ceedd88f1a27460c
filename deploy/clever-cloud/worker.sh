#!/bin/sh
# Watches beside the application (CC_WORKER_COMMAND): writes to the platform's log whether
# replication is on time, each time that the answer becomes another one. run.sh does all work by
# itself; without this worker nothing is missing but these lines.
set -eu
. "$(dirname "$0")/settings.sh"
export_settings
: "${WORKER_EVERY:=60}" # seconds

pause=
stop() {
    [ -z "$pause" ] || kill "$pause" 2>/dev/null || true
    exit 0
}
trap stop TERM INT

before=
while :; do
    code=0
    answer=$("$REPLICATOR_BIN/replicator" status --fresh 2>&1) || code=$?
    # The words tell how long ago something was. The exit code and the first word do not.
    now="$code ${answer%%:*}"
    if [ "$now" != "$before" ]; then
        say "$answer"
        before=$now
    fi
    sleep "$WORKER_EVERY" &
    pause=$!
    wait "$pause"
done
