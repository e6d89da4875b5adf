#!/bin/sh
# The gateway over a real vLLM on the CPU: token ids and text of moved answers.
#
#   sh tests/vllm/gateway.sh [PYTHON] [OUT]
#
# PYTHON runs gsim; vLLM's environment is that of run.sh (VLLM_PYTHON names another). OUT receives the server's log.
set -eu

PYTHON=${1:-.venv/bin/python}
OUT=${2:-results/vllm-gateway}
VLLM_PYTHON=${VLLM_PYTHON:-.venv-vllm/bin/python}
PORT=${VLLM_PORT:-8022}

mkdir -p "$OUT"
READY="$OUT/server.out"
: >"$READY"
"$VLLM_PYTHON" tests/vllm/serve.py port="$PORT" layers=2 hidden=128 tokenizer=1 folder="$OUT" log="$OUT/server.log" >"$READY" &
SERVER=$!
trap 'kill "$SERVER" 2>/dev/null; wait "$SERVER" 2>/dev/null || true' EXIT INT TERM
until grep -q ready "$READY"; do
    kill -0 "$SERVER" 2>/dev/null || { echo "the server did not start; see $OUT/server.log" >&2; exit 1; }
    sleep 1
done
"$PYTHON" tests/vllm/gateway.py url="http://127.0.0.1:$PORT"
