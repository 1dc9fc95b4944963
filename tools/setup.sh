#!/bin/sh
# Makes .venv ready. Silent when there is nothing to do; everything it says goes to stderr, so that a verb's
# stdout stays its own (`make demo ARGS=--json` is read by programs).
cd "$(dirname "$0")/.." || exit 1
if [ -z "${PYTHON:-}" ] && .venv/bin/python -I -c 'pass' >/dev/null 2>&1; then
    python=.venv/bin/python
else
    python=$(sh tools/find_python.sh) || exit 1
fi
exec "$python" -I tools/setup_venv.py >&2
