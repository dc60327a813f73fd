#!/bin/sh
# Each catalogue is complete and its formats fit; each marked file is listed.
for tool in msgfmt msgmerge xgettext; do
    command -v $tool >/dev/null || {
        echo "1..0 # SKIP $tool is not installed"
        exit 0
    }
done
cd "${abs_srcdir:-.}" || exit 1
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
n=0
result() {
    n=$((n + 1))
    if [ -s "$work/why" ]; then
        sed 's/^/# /' "$work/why"
        echo "not ok $n - $1"
    else
        echo "ok $n - $1"
    fi
    : >"$work/why"
}
echo "1..$(($(wc -w <po/LINGUAS) * 2 + 1))"
grep -rlE '(^|[^A-Za-z0-9_])N?_\("' src qmp devices --include='*.c' | sort >"$work/marked"
sort po/POTFILES.in | comm -3 - "$work/marked" >"$work/why"
result "po/POTFILES.in lists the files with marked messages"
xgettext --keyword=_ --keyword=N_ --from-code=UTF-8 -o "$work/pot" -f po/POTFILES.in
for language in $(cat po/LINGUAS); do
    msgfmt --check -o /dev/null "po/$language.po" 2>"$work/why"
    result "po/$language.po: formats and headers"
    msgmerge -q --no-fuzzy-matching -o "$work/merged" "po/$language.po" "$work/pot"
    msgattrib --untranslated "$work/merged" | sed -n '/^msgid/,$p' | tail -n +3 >"$work/why"
    result "po/$language.po: all messages are translated"
done
