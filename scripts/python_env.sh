# Read by run_dev.sh, run_prod.sh and test.sh. After `prepare_python [--dev]`, PYTHON is an interpreter with the
# project and its dependencies. VIETST_PYTHON=/path/to/python uses that one as it is: nothing is installed.

prepare_python() {
    if [ -n "${VIETST_PYTHON:-}" ]; then
        PYTHON=$VIETST_PYTHON
        export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
        echo "      using $PYTHON as it is (VIETST_PYTHON)"
        return
    fi
    local candidate found=""
    for candidate in python3.11 python3.12 python3.13 python3 python; do  # 3.11 is what the tests ran with
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            found=$candidate
            break
        fi
    done
    if [ -z "$found" ]; then
        echo "error: no Python 3.11 or newer found (looked for python3.11, 3.12, 3.13, python3, python)." >&2
        echo "       Install one from https://www.python.org or your system's packages." >&2
        exit 2
    fi
    "$found" scripts/setup_environment.py "$@"
    PYTHON=$PWD/.venv/bin/python
}
