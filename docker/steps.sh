#!/usr/bin/env bash
# The steps of the image, in one script, so that they run where no container engine is at hand too:
#   docker/steps.sh build [VENV]     install everything into VENV (default /opt/gateway)
#   docker/steps.sh migrate|web|worker
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${GATEWAY_VENV:-/opt/gateway}
step=${1:-web}
shift || true
case "$step" in
  build)
    cd "$root"
    exec requirements/setup.sh "${1:-$venv}" gateway
    ;;
  migrate) exec "$venv/bin/gateway" migrate "$@" ;;
  web) exec "$venv/bin/gateway" serve "$@" ;;
  worker) exec "$venv/bin/gateway" worker "$@" ;;
  *)
    echo "steps: expected build, migrate, web or worker, got '$step'" >&2
    exit 2
    ;;
esac
