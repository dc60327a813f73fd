#!/bin/sh
# Runs each fuzz target of a build with --enable-fuzz. Usage: long-fuzz.sh BUILD [SECONDS each, 600]
set -u
build=$1
seconds=${2:-600}
corpora=$(cd "$(dirname "$0")/../fuzz/corpus" && pwd)
make -C "$build" -s -j2 check TESTS= || exit 1
status=0
for target in "$build"/tests/fuzz/fuzz-*; do
    if ! [ -x "$target" ] || ! [ -f "$target" ]; then continue; fi
    name=${target##*/fuzz-}
    case $name in *.*) continue ;; esac
    found=$build/found/$name
    mkdir -p "$found"
    echo "== $name"
    "$target" -max_total_time="$seconds" -timeout=25 -rss_limit_mb=4096 -print_final_stats=1 \
        -artifact_prefix="$found/" "$found" "$corpora/$name" 2>&1 |
        grep -E 'stat::number_of_executed_units|ERROR|SUMMARY|Test unit written' || true
    if ls "$found"/crash-* "$found"/timeout-* "$found"/oom-* >/dev/null 2>&1; then
        echo "$name: found something in $found"
        status=1
    fi
done
exit $status
