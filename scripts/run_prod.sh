#!/usr/bin/env bash
# Production, end to end: as run_dev.sh, with the production configs, through accelerate launch.
#
#   bash scripts/run_prod.sh                                       8 H100s: accelerate_configs/h100x8.yaml
#   bash scripts/run_prod.sh accelerate_configs/single_gpu.yaml    another machine
#   bash scripts/run_prod.sh --smoke                               tiny sizes on two CPU processes
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/python_env.sh

echo "[1/6] Install"
prepare_python
exec "$PYTHON" scripts/run_pipeline.py prod "$@"
