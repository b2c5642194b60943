#!/bin/sh
# Requests at a rate whatever the answers take, evenly and as strangers send them: request-rate.sh [MODEL [RATE...]]
set -eu
# shellcheck source=perf/scripts/settings.sh
. "$(dirname "$0")/settings.sh"

model=${1:-recognize_objects}
[ $# -eq 0 ] || shift
[ $# -gt 0 ] || set -- 20 40 60

for rate; do
  for distribution in constant poisson; do
    measure "$model" "$model-$rate-$distribution" -u "$URL" -i grpc --async \
      --request-rate-range="$rate" --request-distribution="$distribution"
  done
done
