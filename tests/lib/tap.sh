# shellcheck shell=sh
# Test results in TAP, for shell tests. Sourced.
tap_n=0

# tap_result STATUS NAME [LOG]: passed if STATUS is 0; else the log's end follows as comments, and the
# status is 1.
tap_result() {
    tap_n=$((tap_n + 1))
    if [ "$1" -eq 0 ]; then
        echo "ok $tap_n - $2"
        return 0
    fi
    echo "not ok $tap_n - $2"
    if [ $# -gt 2 ]; then tail -n 40 "$3" | tr -d '\r' | sed 's/^/# /'; fi
    return 1
}

# tap_skip NAME REASON
tap_skip() {
    tap_n=$((tap_n + 1))
    echo "ok $tap_n - $1 # SKIP $2"
}

# tap_skip_all REASON: no test of this file can run here.
tap_skip_all() {
    echo "1..0 # SKIP $1"
    exit 0
}
