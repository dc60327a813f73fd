#!/bin/sh
# What host code pays for guest memory: copies beside memcpy(), and single words.
# usage: memory-access.sh
set -u
# shellcheck source=tests/bench/lib.sh
. "${srcdir:-.}/tests/bench/lib.sh"
table=$dir/table
"$builddir/tests/bench/memory-access" >"$table" || bench_fail "it does not run" "$table"
echo "guest memory, throughput with memcpy() being 1 (bytes, read, write):"
awk '/^copy/ { printf "  %8d  %s  %s\n", $2, $3, $4 }' "$table"
awk '/^word/ { printf "  a word: load %s ns, store %s ns\n", $2, $3 }' "$table"
slowest=$(awk '/^copy/ && $2 >= 4096 { m = $3 < $4 ? $3 : $4; if (s == "" || m < s) s = m } END { print s }' "$table")
word=$(awk '/^word/ { m = $2 + 0; if ($3 + 0 > m) m = $3 + 0; print m }' "$table")
goal "guest memory: copies of 4 KiB and more, ratio to memcpy" "$slowest" least 0.9
goal "guest memory: a word, ns" "$word" most 10
exit $missed
