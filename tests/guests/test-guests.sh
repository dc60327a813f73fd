#!/bin/sh
# Freestanding guests in the software CPU, or another back end: each is built here, runs in a machine of
# its own, and prints TAP on its serial port. The images also run elsewhere, for comparison:
#   test-guests.sh --keep FOLDER     builds them and leaves them there
#   test-guests.sh --built FOLDER [GUEST…]
#                                    runs those that were left there, all or some, and builds none;
#                                    tests/kvm does that with PTA_TEST_BACKEND=kvm
#   qemu-system-x86_64 -accel tcg -cpu max -kernel FOLDER/traps.elf -serial stdio -display none \
#       -device isa-debug-exit,iobase=0xf4,iosize=4
set -u
srcdir=${srcdir:-.}
partita=${abs_builddir:-$PWD}/partita
guests=$srcdir/tests/guests
CC=${CC:-cc}
# shellcheck source=tests/lib/tap.sh
. "$srcdir/tests/lib/tap.sh"

guests64="emulate traps paging syscall debug smc strings lapic hyperv smp"
guests32="segments tasks vm86 modes"
default_backend=${PTA_TEST_BACKEND:-soft}
many=${PTA_TEST_MANY_VPS:-64}
limit=${PTA_TEST_LIMIT:-300} # generous: a build with sanitizers on a busy machine

flags="-std=gnu11 -O1 -g0 -Wall -Wextra -ffreestanding -fno-stack-protector -fno-builtin
    -fno-asynchronous-unwind-tables -mno-mmx -mno-sse -fcf-protection=none -nostdlib -static -no-pie
    -Wl,--build-id=none -Wl,-z,noexecstack -Wl,-z,max-page-size=4096 -Wl,-T,$guests/link.ld"

# build64 NAME, build32 NAME: $work/NAME.elf, a 32-bit ELF as multiboot wants it.
build64() {
    # shellcheck disable=SC2086
    $CC -m64 -fpie -mno-red-zone $flags "$guests/start64.S" "$guests/runtime.c" \
        "$guests/runtime64.c" "$guests/$1"*.c -o "$work/$1.elf64" >"$work/log" 2>&1 &&
        objcopy -O elf32-i386 "$work/$1.elf64" "$work/$1.elf" >>"$work/log" 2>&1
}
build32() {
    # shellcheck disable=SC2086
    $CC -m32 -fno-pic $flags "$guests/start32.S" "$guests/runtime.c" "$guests/runtime32.c" \
        "$guests/$1.c" -o "$work/$1.elf" >"$work/log" 2>&1
}

built=
case ${1:-} in
--built)
    built=$2
    shift 2
    ;;
--keep)
    work=$2
    # move is for tests/kvm/test-move.sh, which does not let it come to an end.
    for g in $guests64 move; do build64 "$g" || { cat "$work/log"; exit 1; }; done
    for g in $guests32; do build32 "$g" || { cat "$work/log"; exit 1; }; done
    exit 0
    ;;
esac

work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
if [ -n "$built" ]; then
    build64() { cp "$built/$1.elf" "$work/"; }
    build32() { cp "$built/$1.elf" "$work/"; }
else
    echo 'int x;' >"$work/probe.c"
    for option in -m64 -m32; do
        $CC $option -ffreestanding -c "$work/probe.c" -o "$work/probe.o" 2>/dev/null ||
            tap_skip_all "$CC does not compile for x86 ($option)"
    done
    command -v objcopy >/dev/null || tap_skip_all "no objcopy (Debian: binutils)"
fi

# wanted NAME: whether this guest is among those that were asked for.
only=" $* "
wanted() {
    case $only in
    "  " | *" $1 "*) return 0 ;;
    esac
    return 1
}

# run NAME MODEL [VPS [BACKEND]]: every line of the guest's TAP becomes one of ours.
run() {
    vps=${3:-1} backend=${4:-$default_backend} hypervisor=none what="$2 $1${3:+ with $3 VPs}${4:+ on $4}"
    [ "$1" = hyperv ] && hypervisor=hyperv
    cat >"$work/$1.json" <<JSON
{ "name": "$1",
  "partition": { "vps": $vps, "backend": "$backend", "cpu-model": "$2", "hypervisor": "$hypervisor" },
  "memory": { "size": "64M" },
  "boot": { "kernel": "$1.elf", "cmdline": "${PTA_TEST_GUEST_CMDLINE:-}" },
  "devices": [ { "id": "com1", "type": "uart16550", "chardev": { "type": "stdio" } },
               { "id": "exit", "type": "debug-exit" } ],
  "on-shutdown": "exit", "on-reset": "exit", "on-crash": "exit" }
JSON
    timeout -k 5 "$limit" "$partita" run "$work/$1.json" </dev/null >"$work/out" 2>"$work/err"
    status=$?
    n=0 expected=1 planned=
    while IFS= read -r line; do
        case $line in
        ok\ * | not\ ok\ *)
            n=$((n + 1))
            [ "${line#not}" = "$line" ] || expected=3 # its own exit code, doubled and 1
            tap_n=$((tap_n + 1))
            printf '%s\n' "$line" | sed "s/^\(.*ok\) [0-9]* - /\1 $tap_n - $what: /"
            ;;
        1..*) planned=${line#1..} ;;
        *) printf '# %s\n' "$line" ;;
        esac
    done <"$work/out"
    [ "$status" -eq $expected ] && [ "$planned" = "$n" ]
    tap_result $? "$what: comes to its end" "$work/err" ||
        echo "# status $status, expected $expected; $n of ${planned:-unknown} tests"
}

for g in $guests64; do
    wanted "$g" || continue
    if build64 "$g"; then
        if [ "$g" = smp ]; then
            run "$g" x86-64-v1 2
            run "$g" x86-64-v2 4
            run "$g" host "$many"
            continue
        fi
        for model in x86-64-v1 host; do run "$g" $model; done
        # On this host's own KVM those that pass even where it interprets kernels.
        if { [ "$g" = hyperv ] || [ "$g" = emulate ] || [ "$g" = smc ]; } && [ -w /dev/kvm ] &&
            grep -q "define PTA_HAVE_KVM 1" "${abs_builddir:-$PWD}/config.h"; then
            run "$g" x86-64-v1 1 kvm
        fi
    else
        tap_result 1 "$g builds" "$work/log"
    fi
done
for g in $guests32; do
    wanted "$g" || continue
    if build32 "$g"; then
        run "$g" x86-64-v1
    else
        tap_result 1 "$g builds" "$work/log"
    fi
done
echo "1..$tap_n"
