#!/bin/sh
# An unmodified Debian kernel on memory of each kind.
command -v python3 >/dev/null || {
    echo "1..0 # SKIP python3 is not installed"
    exit 0
}
PYTHONDONTWRITEBYTECODE=1 exec python3 "${abs_srcdir:-.}/tests/guests/memory.py" "$@"
