#!/usr/bin/env bash
# Sweep models over concurrencies with plain perf_analyzer: a table on standard output, one CSV file a model.
#
#   docker compose run --rm perf                         against the running service
#   URL=localhost:8001 OUT=perf/out deploy/sweep.sh      anywhere perf_analyzer is on PATH
#
# MODELS and CONCURRENCIES are lists separated by spaces; further arguments go to perf_analyzer.
set -euo pipefail

URL=${URL:-localhost:8001}
OUT=${OUT:-perf/out}
MODELS=${MODELS:-efficientnet_lite0 mobilenet_v2}
CONCURRENCIES=${CONCURRENCIES:-1 2 4 8 16 32 64}

if [ ! -w "$OUT" ]; then
  echo "sweep: $OUT is no folder that user $(id -u) can write; run 'mkdir -p perf/out', or set PERF_USER to your 'id -u:id -g'" >&2
  exit 1
fi
run=$(mktemp -d "$OUT/sweep-$(date -u +%Y%m%dT%H%M%SZ)-XXXX")
chmod 755 "$run"
failed=0
for model in $MODELS; do
  for concurrency in $CONCURRENCIES; do
    # Random pixels cost a CNN what real ones cost. The asynchronous client needs fewer threads.
    if ! perf_analyzer -m "$model" -u "$URL" -i grpc --async --concurrency-range "$concurrency" \
      --measurement-interval 5000 --stability-percentage 15 --max-trials 6 --percentile 95 \
      -f "$run/row.csv" "$@" >"$run/$model-$concurrency.log" 2>&1; then
      echo "sweep: $model at concurrency $concurrency failed, see $run/$model-$concurrency.log:" >&2
      tail -n 3 "$run/$model-$concurrency.log" >&2
      failed=1
      break
    fi
    [ -s "$run/$model.csv" ] || head -n 1 "$run/row.csv" >"$run/$model.csv"
    tail -n +2 "$run/row.csv" >>"$run/$model.csv"
    rm "$run/row.csv" "$run/$model-$concurrency.log"
  done
  if [ -s "$run/$model.csv" ]; then
    echo "$model: $run/$model.csv"
    awk -F, 'NR == 1 { for (i = 1; i <= NF; i++) if ($i ~ /^p[0-9]+ latency$/) p[i] = $i; print "  concurrency  infer/s  latency" }
      NR > 1 { printf "  %11s  %7.1f ", $1, $2; for (i = 1; i <= NF; i++) if (i in p) printf " %s %.2f ms", substr(p[i], 1, index(p[i], " ") - 1), $i / 1000; print "" }' \
      "$run/$model.csv"
  fi
done
exit "$failed"
