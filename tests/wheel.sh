#!/bin/sh
# What a user gets: builds the sdist and from it the wheel, installs that into an environment of its own and runs gsim
# in an empty folder.
set -eu
python=$1
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Where there is a C compiler the wheel must hold the compiled modules, and they must be in use.
compiled=1
if [ -n "${GSIM_PURE:-}" ] || ! command -v cc >"$work/cc"; then compiled=; fi
export GSIM_COMPILED=$compiled
"$python" -m build --outdir "$work/dist" "$root" >"$work/build.log" 2>&1 || { cat "$work/build.log"; exit 1; }
"$python" -m venv --system-site-packages "$work/venv"
# The checkout's own packages serve as dependencies; gsim itself must come from the wheel.
site=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
new=$("$work/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
"$work/venv/bin/python" -m pip install --quiet --no-deps "$work"/dist/*.whl
for entry in "$site"/*; do
    name=$(basename "$entry")
    case "$name" in *gsim* | pip* | __pycache__ | setuptools* | _virtualenv*) continue ;; esac
    [ -e "$new/$name" ] || ln -s "$entry" "$new/$name"
done
mkdir "$work/empty"
cd "$work/empty"
"$work/venv/bin/python" -c 'import gsim, sys; sys.exit(0 if "site-packages" in gsim.__file__ else "gsim does not come from the wheel")'
if [ -n "$compiled" ]; then
    "$work/venv/bin/python" -c "import gsim, sys; sys.exit(None if gsim.compiled else gsim.compiled_why)"
fi
"$work/venv/bin/python" -m gsim trace.requests=50 seeds=1 >run.log 2>&1 || { cat run.log; exit 1; }
"$work/venv/bin/python" -m gsim experiment=goodput_vs_rps warmup_s=0 until_s=4 drain_s=2 seeds=2 'router=round_robin,fastest' \
    trace.rate_per_s=10,40 >study.log 2>&1 || { cat study.log; exit 1; }
test -s results/goodput_vs_rps/results.csv || { echo "no results.csv from the wheel"; cat study.log; exit 1; }
echo "wheel: ok"
