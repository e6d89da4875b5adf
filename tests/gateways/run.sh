#!/bin/sh
# Policies of ours inside other people's gateways, with the real packages, each in an environment of its own.
#
#   sh tests/gateways/run.sh [FOLDER]
#
# FOLDER (default: .venv-gateways) receives the environments, some 2 GB.
set -eu

FOLDER=${1:-.venv-gateways}
for NAME in litellm ray; do
    if ! [ -x "$FOLDER/$NAME/bin/pytest" ]; then
        echo "making $FOLDER/$NAME" >&2
        python3 -m venv "$FOLDER/$NAME"
        case $NAME in
            litellm) WHAT="litellm>=1.108" ;;
            ray) WHAT="ray[serve]>=2.50" ;;
        esac
        GSIM_PURE=1 "$FOLDER/$NAME/bin/pip" install --quiet -e ".[live]" pytest pytest-timeout "$WHAT"
    fi
    # Warnings of other people's packages are no errors here.
    GSIM_PURE=1 "$FOLDER/$NAME/bin/python" -m pytest -q -m slow -W ignore "tests/gateways/test_$NAME.py"
done
