#!/bin/sh
# Prints the command of the Python this project should be set up with, or says on stderr what to install.
# Each candidate is run, not just looked up: version switchers leave commands on PATH that only print an error.
# 3.11 to 3.13 are the versions the tests run on, so they go first; 3.14 is taken when it is the only one.
probe='import sys, sysconfig
ok = sys.implementation.name == "cpython" and (3, 11) <= sys.version_info[:2] <= (3, 14) and sys.maxsize > 2**32
sys.exit(0 if ok and not sysconfig.get_config_var("Py_GIL_DISABLED") else 1)'

suits() { "$1" -I -c "$probe" >/dev/null 2>&1; }

if [ -n "${PYTHON:-}" ]; then
    if suits "$PYTHON"; then
        printf '%s\n' "$PYTHON"
        exit 0
    fi
    printf '%s\n' "PYTHON=$PYTHON is not a usable CPython 3.11 to 3.14. Point it at one, or leave it unset." >&2
    exit 1
fi
for candidate in python3.13 python3.12 python3.11 python3.14 python3 python /usr/bin/python3 /usr/local/bin/python3; do
    if suits "$candidate"; then
        printf '%s\n' "$candidate"
        exit 0
    fi
done
cat >&2 <<'MESSAGE'
No usable Python was found on PATH: Parhelion needs CPython 3.11, 3.12, 3.13 or 3.14 (64 bit).
Install one (Debian and Ubuntu: apt install python3 python3-venv; macOS: brew install python@3.13),
or name the one you have: make PYTHON=/path/to/python3.12
MESSAGE
exit 1
