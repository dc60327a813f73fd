#!/bin/sh
# Runs the benchmarks named on the command line and prints their goals in one table at the end. Exit
# status 1 if a goal was missed, 2 if a benchmark failed. `make bench` calls it with all of them.
set -u
out=$(mktemp) || exit 2
trap 'rm -f "$out"' EXIT
trap 'exit 2' INT TERM
status=0
for bench; do
    echo "== $(basename "$bench" .sh)"
    { sh "$bench" 2>&1; echo "status: $?"; } | tee -a "$out" | grep -v '^status: '
    case $(tail -n 1 "$out") in
    "status: 0") ;;
    "status: 1") [ $status -ne 0 ] || status=1 ;;
    *)
        echo "goal: $(basename "$bench" .sh): FAILED" >>"$out"
        status=2
        ;;
    esac
done
echo
echo "== all goals (load average at the end: $(cut -d ' ' -f 1-3 /proc/loadavg), $(nproc) processors)"
sed -n 's/^goal: /  /p; s/^\([a-z]*: SKIP: .*\)/  \1/p' "$out"
exit $status
