#!/bin/sh
# Network cards in the hands of an unmodified Debian kernel.
command -v python3 >/dev/null || {
    echo "1..0 # SKIP python3 is not installed"
    exit 0
}
PYTHONDONTWRITEBYTECODE=1 exec python3 "${abs_srcdir:-.}/tests/guests/net.py" "$@"
