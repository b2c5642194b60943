#!/bin/sh
# Sequences, one a line of text, over single calls and over one gRPC stream: sequences.sh [MODEL [FIRST:LAST:STEP]]
set -eu
# shellcheck source=perf/scripts/settings.sh
. "$(dirname "$0")/settings.sh"

model=${1:-text_stream}
range=${2:-1:32:8}

# Each level of concurrency is that many sequences under way. IDs are not used again.
measure "$model" "$model-grpc" -u "$URL" -i grpc --async --concurrency-range="$range" \
  --sequence-id-range=1:1000000000
measure "$model" "$model-stream" -u "$URL" -i grpc --async --streaming --concurrency-range="$range" \
  --sequence-id-range=1:1000000000
