# shellcheck shell=sh
# What the benchmarks share. Sourced; needs tests/bench/stopwatch (make bench builds it).
#
# A benchmark compares two programs in one run, in turns, and prints medians and their ratio: the
# machine may be busy, so that times of two runs are not to be compared. CPU time hardly depends on
# what else runs, wall time does. Each ends with lines "goal: …: met" or "…: MISSED", which `make
# bench` collects; the exit status is 1 if a goal is missed, and 0 with a line "NAME: SKIP: reason"
# if it cannot run here.
builddir=${builddir:-.}
srcdir=${srcdir:-.}
# shellcheck disable=SC2034
partita=$builddir/partita
stopwatch=$builddir/tests/bench/stopwatch
# shellcheck disable=SC2034
qemu=${QEMU:-qemu-system-x86_64}
cache=${PTA_CACHE:-$(cd "$srcdir" && pwd)/.cache}
missed=0
bench=$(basename "$0" .sh)

bench_skip() {
    echo "$bench: SKIP: $*"
    exit 0
}

bench_fail() {
    echo "$bench: $1" >&2
    [ -z "${2:-}" ] || tail -n 20 "$2" >&2
    exit 2
}

# bench_need PROGRAM PACKAGE
bench_need() {
    command -v "$1" >/dev/null || bench_skip "no $1 (Debian: $2)"
}

# bench_guest: the guest of the tests, made now if it is not there.
bench_guest() {
    if ! [ -s "$cache/guest/vmlinuz" ] || ! [ -s "$cache/guest/initrd.img" ]; then
        sh "$srcdir/tests/lib/guest-files.sh" "$cache" || bench_skip "no Debian guest in $cache/guest"
    fi
}

# bench_kernel OUT FILE…: links a freestanding guest from objects and assembly, or skips. BITS is 32 or 64.
bench_kernel() {
    _out=$1
    shift
    # -z max-page-size keeps the file small for 64-bit links; the header may not be loaded low.
    # shellcheck disable=SC2086
    if ! ${CC:-cc} "-m${BITS:-32}" -O2 -ffreestanding -fno-pic -fno-stack-protector -mno-red-zone \
        -fcf-protection=none -I"$srcdir" ${KERNEL_CFLAGS:-} -nostdlib -static -no-pie \
        -Wl,-Ttext-segment=0x100000 -Wl,--build-id=none -Wl,-z,max-page-size=4096 \
        -Wl,-z,noseparate-code -Wl,-z,noexecstack -Wl,--no-warn-rwx-segments \
        -o "$_out" "$@" 2>"$_out.log"; then
        bench_skip "${CC:-cc} cannot make a ${BITS:-32}-bit kernel: $(head -n 1 "$_out.log")"
    fi
}

# median FILE COLUMN [SCALE]
median() {
    sort -n -k "$2,$2" "$1" |
        awk -v c="$2" -v s="${3:-1}" '{ v[NR] = $c } END { print (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 * s }'
}

# ratio A B
ratio() {
    awk -v a="$1" -v b="$2" 'BEGIN { printf "%.3f", a / b }'
}

# goal TEXT VALUE most|least LIMIT
goal() {
    if awk -v v="$2" -v how="$3" -v l="$4" \
        'BEGIN { exit !(v != "" && (how == "most" ? v + 0 <= l + 0 : v + 0 >= l + 0)) }'; then
        echo "goal: $1 $2 (at $3 $4): met"
    else
        echo "goal: $1 $2 (at $3 $4): MISSED"
        # shellcheck disable=SC2034
        missed=1
    fi
}

[ -x "$stopwatch" ] || bench_fail "no $stopwatch; run it by 'make bench'"
[ -x "$partita" ] || bench_fail "no $partita; run it by 'make bench'"
dir=$(mktemp -d) || exit 2
dir=$(cd "$dir" && pwd)
child=
bench_cleanup() {
    [ -z "$child" ] || kill -KILL "$child" 2>/dev/null
    rm -rf "$dir"
}
trap bench_cleanup EXIT
trap 'exit 2' INT TERM
