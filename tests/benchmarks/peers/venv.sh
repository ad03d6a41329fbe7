#!/usr/bin/env bash
# Makes the environment of the peers: servers that nbserve is measured against, apart from ours. Called by `make peers`.
#
#   tests/benchmarks/peers/venv.sh .venv-peers .venv-peers/.stamp-KEY
#
# The stamp is written last, so that a broken install is done again.
set -euo pipefail
venv=$1 stamp=$2
here=$(dirname "$0")

rm -rf "$venv"
.venv/bin/python -m venv "$venv"
install() { "$venv/bin/python" -m pip install -qq --disable-pip-version-check -c "$here/constraints.txt" "$@"; }

echo "peers: torch first, so that nothing else chooses its build"
install "$(grep '^torch==' "$here/constraints.txt")"
echo "peers: mosec, FastAPI with uvicorn, LitServe"
install mosec fastapi uvicorn uvloop httptools litserve numpy
touch "$stamp"
