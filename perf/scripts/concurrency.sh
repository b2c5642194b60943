#!/bin/sh
# Concurrency over gRPC, HTTP and shared memory: concurrency.sh [MODEL [FIRST:LAST:STEP]]
set -eu
# shellcheck source=perf/scripts/settings.sh
. "$(dirname "$0")/settings.sh"

model=${1:-efficientnet_lite0}
range=${2:-1:32:8}

measure "$model" "$model-grpc" -u "$URL" -i grpc --async --concurrency-range="$range"
measure "$model" "$model-http" -u "$HTTP_URL" -i http --async --concurrency-range="$range"

# The memory is shared with the server: on one machine only, and with `ipc` shared between containers.
if [ "${SHARED_MEMORY:-no}" = yes ]; then
  measure "$model" "$model-grpc-shm" -u "$URL" -i grpc --async --concurrency-range="$range" \
    --shared-memory=system --output-shared-memory-size=1048576
fi
