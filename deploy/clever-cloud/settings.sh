# shellcheck shell=sh
# What build.sh, run.sh and worker.sh share: the platform's variables, and ours that follow from
# them. Whatever is set in the application's environment wins.

say() { printf '%s\n' "replicator-kuma: $*" >&2; }
die() { say "$*"; exit 1; }

# The platform sets APP_HOME and APP_ID.
: "${APP_HOME:=$(cd "$(dirname "$0")" && pwd)}"
: "${DATA_DIR:=$APP_HOME/fs}"
: "${UPTIME_KUMA_VERSION:=2.5.3}"
: "${LITESTREAM_BUCKET:=uptime-kuma}"

case $UPTIME_KUMA_VERSION in
    0.* | 1.[0-9] | 1.[0-9].* | 1.1[0-9] | 1.1[0-9].* | 1.2[0-2] | 1.2[0-2].*)
        die "UPTIME_KUMA_VERSION=$UPTIME_KUMA_VERSION is too old: 1.23 or later is needed" ;;
esac

# shellcheck disable=SC2034  # the scripts use them
KUMA_DIR=$APP_HOME/uptime-kuma
# shellcheck disable=SC2034
REPLICATOR_BIN=$APP_HOME/replicator/bin
RESTIC=$APP_HOME/bin/restic

# Gives the replicator what it needs, from what the platform's add-on gives.
export_settings() {
    if [ -n "${LITESTREAM_VERSION:-}" ]; then
        say "LITESTREAM_VERSION=$LITESTREAM_VERSION is ignored: Litestream comes with the replicator"
    fi
    missing=
    for name in CELLAR_ADDON_HOST CELLAR_ADDON_KEY_ID CELLAR_ADDON_KEY_SECRET; do
        eval "[ -n \"\${$name:-}\" ]" || missing="$missing $name"
    done
    [ -z "$missing" ] || die "not set:$missing. Link a Cellar add-on to this application"
    case $CELLAR_ADDON_HOST in
        *://*) endpoint=$CELLAR_ADDON_HOST ;;
        *) endpoint=https://$CELLAR_ADDON_HOST ;;
    esac

    # The name has to outlive the machine, which each deployment replaces.
    : "${REPLICATOR_INSTANCE:=${APP_ID:-}}"
    [ -n "$REPLICATOR_INSTANCE" ] || die "set REPLICATOR_INSTANCE: a name that stays the same"

    : "${AWS_ACCESS_KEY_ID:=$CELLAR_ADDON_KEY_ID}"
    : "${AWS_SECRET_ACCESS_KEY:=$CELLAR_ADDON_KEY_SECRET}"
    : "${AWS_DEFAULT_REGION:=fr-par}"
    : "${RESTIC_REPOSITORY:=s3:$endpoint/$LITESTREAM_BUCKET/restic}"
    # The folder db is where Litestream 0.3 of earlier scripts kept its replica: what is there is
    # seen, and nothing starts empty over it. Our own replica is below it, by fleet and instance.
    : "${REPLICATOR_LITESTREAM_URL:=s3://$LITESTREAM_BUCKET/db?endpoint=$endpoint}"
    : "${REPLICATOR_KUMA_DIR:=$KUMA_DIR}"
    : "${REPLICATOR_RESTIC:=$RESTIC}"
    # The platform asks for Kuma at PORT, which it sets for Node (8080).
    : "${UPTIME_KUMA_PORT:=${PORT:-8080}}"
    # A new disk has no db-config.json: without this Kuma's page would ask which database to use.
    : "${UPTIME_KUMA_DB_TYPE:=sqlite}"
    export DATA_DIR REPLICATOR_INSTANCE AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_DEFAULT_REGION
    export RESTIC_REPOSITORY REPLICATOR_LITESTREAM_URL REPLICATOR_KUMA_DIR REPLICATOR_RESTIC
    export UPTIME_KUMA_PORT UPTIME_KUMA_DB_TYPE
    # The replicator keeps AWS_… from Kuma; nothing else needs these.
    unset CELLAR_ADDON_KEY_ID CELLAR_ADDON_KEY_SECRET
}
