#!/bin/sh
# The schema compiler: one bad schema for each refusal, with its exact message; golden output for a
# small schema; the lock list of the real one; manual pages that mandoc accepts; usage.
# shellcheck disable=SC2086 # $SCHEMA is a list
# To take new output as golden, after reading its difference: UPDATE=1 sh tests/schema/test-schemac.sh
set -u

srcdir=${srcdir:-.}
builddir=${builddir:-.}
src=$(cd "$srcdir" && pwd)
schemac=${SCHEMAC:-$builddir/qmp/schemac}
case $schemac in
/*) ;;
*) schemac=$(pwd)/$schemac ;;
esac
SCHEMA=${SCHEMA:-$(cd "$src" && echo schema/*.json)}
update=${UPDATE:-}
work=$(mktemp -d) || exit 99
trap 'rm -rf "$work"' EXIT
n=0

# ok STATUS NAME: one line of TAP.
ok() {
    n=$((n + 1))
    if [ "$1" -eq 0 ]; then
        echo "ok $n - $2"
    else
        echo "not ok $n - $2"
    fi
}

comment() {
    sed 's/^/# /'
}

# ---- refusals ----

# An expected message that ends in ": " is the parser library's from there on.
for file in "$src"/tests/schema/bad/*.json; do
    name=$(basename "$file" .json)
    (cd "$src/tests/schema/bad" && "$schemac" --check "$name.json") >"$work/out" 2>"$work/err"
    status=$?
    got=$(cat "$work/err")
    want=$(cat "$src/tests/schema/bad/$name.err")
    good=1
    case $want in
    *": ") [ "${got#"$want"?}" != "$got" ] && good=0 ;;
    *) [ "$got" = "$want" ] && good=0 ;;
    esac
    { [ $status -eq 1 ] && [ ! -s "$work/out" ]; } || good=1
    ok $good "refuses $name"
    [ $good -eq 0 ] || printf 'status %s\nwant %s\ngot  %s\n' $status "$want" "$got" | comment
done

"$schemac" --check "$work/none.json" 2>"$work/err"
[ $? -eq 1 ] && grep -q "none.json" "$work/err"
ok $? "names a file that is not there"

# ---- golden output ----

(cd "$src/tests/schema" && "$schemac" --include tests/schema/gen --date 'January 1, 2026' \
    -o "$work/small" small.json && "$schemac" --lock small.json >"$work/small/schema.lock")
ok $? "compiles the small schema"
for file in "$work"/small/*; do
    name=$(basename "$file")
    golden=$src/tests/schema/golden/$name.golden
    [ -z "$update" ] || cp "$file" "$golden"
    diff -u "$golden" "$file" >"$work/diff" 2>&1
    ok $? "makes the golden $name"
    head -40 "$work/diff" | comment
done
made=$(find "$work/small" -type f | wc -l)
kept=$(find "$src/tests/schema/golden" -type f | wc -l)
[ "$made" -eq "$kept" ]
ok $? "makes all golden files"

# What does not change keeps its time, else all of the program would be compiled again.
touch -d '2001-01-01' "$work/small/types.h"
(cd "$src/tests/schema" && "$schemac" --include tests/schema/gen --date 'January 1, 2026' \
    -o "$work/small" small.json)
[ -n "$(find "$work/small/types.h" -newermt 2001-01-02)" ] && status=1 || status=0
ok "$status" "leaves files alone that do not change"

# ---- the interface may only grow ----

"$schemac" -C "$src" --lock $SCHEMA >"$work/lock"
ok $? "prints the interface"
lock=$src/tests/golden/schema.lock
[ -z "$update" ] || LC_ALL=C sort -u "$lock" "$work/lock" -o "$lock"
LC_ALL=C comm -23 "$lock" "$work/lock" >"$work/gone"
[ ! -s "$work/gone" ]
ok $? "nothing of the interface has gone (clients would break; see STYLE, part 8)"
head -20 "$work/gone" | comment
LC_ALL=C comm -13 "$lock" "$work/lock" >"$work/new"
[ ! -s "$work/new" ]
ok $? "all of the interface is in tests/golden/schema.lock (UPDATE=1 adds it)"
head -20 "$work/new" | comment

# ---- manual pages ----

for page in "$builddir"/qmp/gen/partita-machine.5 "$builddir"/qmp/gen/partita-qmp.7 \
    "$work"/small/defaults.5 "$work"/small/partita-qmp.7; do
    name=$(basename "$(dirname "$page")")/$(basename "$page")
    if command -v mandoc >/dev/null 2>&1; then
        mandoc -Tlint -W warning "$page" >"$work/lint" 2>&1
        ok $? "mandoc has nothing to say about $name"
        head -20 "$work/lint" | comment
    else
        n=$((n + 1))
        echo "ok $n - mandoc about $name # SKIP no mandoc"
    fi
done

# Every command, event and their arguments are in the manual.
sed -n 's/^\(command\|event\) \([^ (]*\).*/\2/p' "$work/lock" >"$work/names"
missing=0
while read -r name; do
    grep -qxF ".Ss $name" "$builddir/qmp/gen/partita-qmp.7" || missing=1
done <"$work/names"
[ -s "$work/names" ] && [ $missing -eq 0 ]
ok $? "all commands and events are in partita-qmp(7)"

# ---- usage ----

"$schemac" --help >"$work/help"
status=$?
for option in --directory --output --include --date --lock --check; do
    grep -q -e "$option" "$work/help" || status=1
done
ok "$status" "--help names all options"
"$schemac" 2>"$work/err"
[ $? -eq 2 ] && grep -q -e --help "$work/err"
ok $? "without arguments it says what to give"
"$schemac" --nonsense x.json 2>"$work/err"
[ $? -eq 2 ] && grep -q nonsense "$work/err"
ok $? "refuses an unknown option"
"$schemac" --lock -C "$src" $SCHEMA >/dev/full 2>"$work/err"
[ $? -eq 1 ] && grep -q 'standard output' "$work/err"
ok $? "says when its output cannot be written"
: >"$work/file"
"$schemac" -C "$src" --date x -o "$work/file/sub" $SCHEMA 2>"$work/err"
[ $? -eq 1 ] && grep -q "$work/file/sub" "$work/err"
ok $? "says when its folder cannot be made"

echo "1..$n"
