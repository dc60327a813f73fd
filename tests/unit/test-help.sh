#!/bin/sh
# The programs' options, what `--help` says of them, and partita(1) are the same; so are the
# subcommands. The other two pages are made from the schema, as the parsers are.
set -u
srcdir=${srcdir:-.}
builddir=${builddir:-.}
partita=$builddir/partita
page=$srcdir/docs/partita.1
# shellcheck source=tests/lib/tap.sh
. "$srcdir/tests/lib/tap.sh"
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
export LC_ALL=C.UTF-8 LANGUAGE=C

# same NAME FILE FILE: both have the same lines.
same() {
    diff "$2" "$3" >"$work/log" 2>&1
    tap_result $? "$1" "$work/log"
}

# "-S, --paused" or "-d, --depth=N" as "S paused", "d depth"; --help is described once for all.
help_options() {
    "$partita" "$1" --help | sed -n 's/^  -\(.\), --\([a-z-]*\).*/\1 \2/p' | grep -v '^h help$' | sort
}

page_options() {
    sed -n "/^\.Ss Options of $1\$/,/^\.El/s/^\.It Fl \(.\) , -\([a-z-]*\).*/\1 \2/p" "$page" | sort
}

# Of the synopsis: ".Cm run" and the lines up to the next ".Nm".
synopsis_options() {
    sed -n '/^\.Sh SYNOPSIS/,/^\.Sh DESC/p' "$page" | sed -n "/^\.Cm $1\$/,/^\.Nm/p" |
        sed -n 's/^\.Op Fl \(.\) | -\([a-z-]*\).*/\1 \2/p' | sort
}

commands=$("$partita" --help | sed -n '/^Commands:/,/^$/s/^  \([a-z]*\) .*/\1/p')
set -- $commands
echo "1..$((4 + $# * 4))"

printf '%s\n' "$@" >"$work/help"
sed -n '/^\.Sh SYNOPSIS/,/^\.Sh DESC/s/^\.Cm //p' "$page" >"$work/page"
test $# -gt 0 && test -s "$work/page"
tap_result $? "there are subcommands"
same "subcommands of --help and of the page's synopsis" "$work/help" "$work/page"
sed -n '/^\.Sh DESC/,/^\.Ss/s/^\.It Cm //p' "$page" >"$work/page"
same "subcommands of --help and of the page's description" "$work/help" "$work/page"
"$partita" --help >"$work/help" && "$partita" -h >"$work/short" &&
    cmp "$work/help" "$work/short" >"$work/log" && "$partita" --version >"$work/log" &&
    "$partita" -V >>"$work/log" && test "$(uniq "$work/log" | wc -l)" -eq 1
tap_result $? "--help is -h, --version is -V" "$work/log"

for command; do
    help_options "$command" >"$work/help"
    page_options "$command" >"$work/page"
    synopsis_options "$command" >"$work/synopsis"
    same "$command: --help and the page's options" "$work/help" "$work/page"
    same "$command: --help and the page's synopsis" "$work/help" "$work/synopsis"
    # Each one that is named is one: what follows is wrong, not the option. What is not named is none.
    : >"$work/log"
    while read -r short long; do
        for option in "-$short" "--$long"; do
            case $long in
            depth | watch) set -- "$option" 1 ;;
            set) set -- "$option" x ;;
            *) set -- "$option" ;;
            esac
            "$partita" "$command" "$@" 2>&1 | grep -v ': expected ' | sed "s/^/$option: /" >>"$work/log"
        done
    done <"$work/help"
    test ! -s "$work/log"
    tap_result $? "$command: takes the options that it names" "$work/log"
    "$partita" "$command" --no-such-option >"$work/out" 2>"$work/log"
    status=$?
    test $status -ne 0 && test ! -s "$work/out" && test "$(wc -l <"$work/log")" -eq 1
    tap_result $? "$command: refuses others with one line" "$work/log"
done
