#!/bin/sh
# A running guest moves between back ends on real KVM, which QEMU's TCG makes; nested-move.py says how.
command -v python3 >/dev/null || {
    echo "1..0 # SKIP no python3"
    exit 0
}
exec python3 "${srcdir:-.}/tests/kvm/nested-move.py"
