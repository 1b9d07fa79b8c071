#!/usr/bin/env bash
# Development, end to end: environment, data, features, training, evaluation, charts.
#
#   bash scripts/run_dev.sh            on a GPU with the Hub or cached weights: dev_whisper; else: nano_whisper
#   bash scripts/run_dev.sh --smoke    the same in a minute or two, with tiny sizes, in outputs/smoke
#   bash scripts/run_dev.sh --help     all options
#
# Where no manifest lies at the configured place, a sample corpus is made. Running it again goes on where the
# last run ended. Linux and macOS; on Windows: scripts\run_dev.bat.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/python_env.sh

echo "[1/6] Install"
prepare_python
exec "$PYTHON" scripts/run_pipeline.py dev "$@"
