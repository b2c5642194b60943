# For the other scripts of this folder, which read it. Set any of these in the environment.
# shellcheck shell=sh disable=SC2034

URL=${URL:-localhost:8001}            # gRPC endpoint; docker compose publishes it there
HTTP_URL=${HTTP_URL:-localhost:8000}
OUT=${OUT:-perf/out}                  # takes a CSV file of each sweep
INPUTS=${INPUTS:-$OUT/inputs}         # real inputs: `python -m perf inputs` writes them; random values without
WINDOW_MS=${WINDOW_MS:-5000}
STABILITY=${STABILITY:-15}             # percent that windows may differ by; perf_analyzer ends a sweep beyond it

command -v perf_analyzer >/dev/null || {
  echo "perf_analyzer is not on PATH: it is in nvcr.io/nvidia/tritonserver:24.10-py3-sdk, and in pip's" \
    "perf-analyzer where glibc is 2.38 or newer" >&2
  exit 1
}
mkdir -p "$OUT"

# measure MODEL NAME ARGUMENTS...: one sweep, to NAME.csv
measure() {
  model=$1 name=$2
  shift 2
  if [ -f "$INPUTS/$model.json" ]; then
    set -- "--input-data=$INPUTS/$model.json" "$@"
  else
    echo "$model: random values, there is no $INPUTS/$model.json" >&2
    set -- --input-data=random "$@"
  fi
  echo "$name" >&2
  perf_analyzer -m "$model" --measurement-interval="$WINDOW_MS" --stability-percentage="$STABILITY" --max-trials=6 \
    -f "$OUT/$name.csv" "$@"
}
