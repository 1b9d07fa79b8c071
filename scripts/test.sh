#!/usr/bin/env bash
# All checks: formatting, linting, types, tests (the slow ones too). What follows goes to pytest:
#
#   bash scripts/test.sh
#   bash scripts/test.sh -m "not slow" tests/data
#
# All four run even if one fails; the summary at the end says which did.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/python_env.sh

echo "Install"
prepare_python --dev

summary=""
failed=0
check() {
    local name=$1 start=$SECONDS verdict=passed
    shift
    printf '\n%s: %s\n' "$name" "$*"
    if ! "$@"; then
        verdict=FAILED
        failed=1
    fi
    summary+=$(printf '%-12s %-7s %5d s' "$name" "$verdict" $((SECONDS - start)))$'\n'
}

check formatting "$PYTHON" -m ruff format --check .
check linting "$PYTHON" -m ruff check .
check types "$PYTHON" -m mypy
# Two processes, each with one thread; a file's tests stay together, since they share what they build.
check tests "$PYTHON" -m pytest -q -n 2 --dist loadfile --durations 15 "$@"

printf '\nSummary\n%s' "$summary"
exit "$failed"
