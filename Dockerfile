# replicator-kuma and Uptime Kuma in one container: the official image with its
# files untouched, plus restic and the replicator in a virtual environment.
#
# BASE is any image of Uptime Kuma 2 (2, 2-slim, 2-rootless, a pinned 2.x.y):
# 1.23's has a Python that is too old.
ARG BASE=louislam/uptime-kuma:2

FROM ${BASE} AS build
USER root
WORKDIR /build

# Nothing is downloaded where the base has it already.
RUN set -eu; \
    if ! { command -v curl && command -v bunzip2 && python3 -c 'import ensurepip, venv'; } >/dev/null 2>&1; then \
        apt-get update; \
        apt-get install -y --no-install-recommends bzip2 ca-certificates curl python3-venv; \
    fi; \
    python3 -c 'import sys; assert sys.version_info >= (3, 11), "the base image needs Python 3.11 or later"'

# The sums of restic's own release files, as two unrelated projects pin them too:
# crmne/kamal-backup (Dockerfile) and lhns/restic-android (download-binaries.sh).
ARG RESTIC_VERSION=0.18.1
ARG RESTIC_SHA256_AMD64=680838f19d67151adba227e1570cdd8af12c19cf1735783ed1ba928bc41f363d
ARG RESTIC_SHA256_ARM64=87f53fddde38764095e9c058a3b31834052c37e5826d2acf34e18923c006bd45
# Another place for the same kind of file, and its sum. Without a network:
# put it into offline/ of the build context and give file:///build/offline/restic.bz2
ARG RESTIC_URL=
ARG RESTIC_SHA256=
COPY . /build/
RUN set -eu; \
    arch=$(dpkg --print-architecture); \
    case "$arch" in \
        amd64) sum=${RESTIC_SHA256:-$RESTIC_SHA256_AMD64} ;; \
        arm64) sum=${RESTIC_SHA256:-$RESTIC_SHA256_ARM64} ;; \
        *) sum=${RESTIC_SHA256:?no checksum of restic is known for $arch} ;; \
    esac; \
    url=${RESTIC_URL:-https://github.com/restic/restic/releases/download/v$RESTIC_VERSION/restic_${RESTIC_VERSION}_linux_$arch.bz2}; \
    curl -fsSL --retry 3 -o /tmp/restic.bz2 "$url"; \
    echo "$sum  /tmp/restic.bz2" | sha256sum --check --quiet; \
    bunzip2 -c /tmp/restic.bz2 >/usr/local/bin/restic; \
    chmod 0755 /usr/local/bin/restic; \
    restic version

# Every wheel by its SHA-256 (make pins writes the file), setuptools for the
# build included; nothing else is fetched. offline/wheels of the build context,
# if there, replaces the package index.
RUN set -eu; \
    python3 -m venv /opt/replicator; \
    if [ -d offline/wheels ]; then set -- --no-index --find-links offline/wheels; fi; \
    pip="/opt/replicator/bin/pip install --quiet --no-cache-dir --disable-pip-version-check --no-deps"; \
    $pip "$@" --only-binary :all: --require-hashes --requirement requirements/image.txt; \
    $pip --no-index --no-build-isolation .; \
    /opt/replicator/bin/replicator --version

# on: with Litestream (REPLICATOR_LITESTREAM_URL, docs/litestream.md), 39 MB more.
# A step of its own: who builds both images, builds the rest once.
ARG LITESTREAM=off
RUN set -eu; \
    if [ "$LITESTREAM" = on ]; then \
        if [ -d offline/wheels ]; then set -- --no-index --find-links offline/wheels; fi; \
        pip="/opt/replicator/bin/pip install --quiet --no-cache-dir --disable-pip-version-check --no-deps"; \
        $pip "$@" --only-binary :all: --require-hashes --requirement requirements/litestream.txt; \
        /opt/replicator/bin/litestream version; \
    fi; \
    /opt/replicator/bin/pip uninstall --quiet --yes pip setuptools

FROM ${BASE}
LABEL org.opencontainers.image.title="replicator-kuma" \
      org.opencontainers.image.description="Uptime Kuma with replication of its configuration through restic" \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /usr/local/bin/restic /usr/local/bin/restic
COPY --from=build /opt/replicator /opt/replicator
# The base's user stays: root as in Kuma's own image, node in the rootless one,
# or any other by --user, as long as the data directory is theirs.
ENV PATH=/opt/replicator/bin:$PATH \
    DATA_DIR=/app/data/ \
    REPLICATOR_KUMA_DIR=/app \
    REPLICATOR_KUMA_COMMAND="node server/server.js"
WORKDIR /app
# Reads a small file only. It answers for this container: a repository that is
# out of reach does not make a monitoring Kuma unhealthy.
HEALTHCHECK --interval=2m --timeout=10s --start-period=3m --retries=3 \
    CMD ["replicator", "status", "--health"]
ENTRYPOINT ["/usr/bin/dumb-init", "--", "replicator", "run"]
CMD []
