# shellcheck shell=sh
# shellcheck disable=SC2034
# The Debian packages that building and testing need, and how they are installed. Sourced.

PTA_PACKAGES_BUILD="autoconf automake autopoint gettext pkg-config make gcc libc6-dev
 libglib2.0-dev libjansson-dev libfdt-dev libzydis-dev libsimde-dev liburing-dev libslirp-dev libedit-dev
 zlib1g-dev liblzma-dev libzstd-dev liblz4-dev libbz2-dev"

# What quickstart puts together a guest with; its kernel and busybox are unpacked, not installed.
PTA_PACKAGES_GUEST="e2fsprogs xz-utils zstd dpkg"

PTA_PACKAGES_TEST="$PTA_PACKAGES_GUEST libcmocka-dev qemu-system-x86 acpica-tools device-tree-compiler
 clang libclang-rt-14-dev python3 socat mandoc shellcheck gdb bzip2 lz4 zstd xxd"

# pta_install_packages PACKAGE…: installs those that are not there; says what to do if it cannot.
pta_install_packages() {
    _missing=
    for _package in "$@"; do
        dpkg-query -W -f='${Status}' "$_package" 2>/dev/null | grep -q 'ok installed' ||
            _missing="$_missing $_package"
    done
    [ -z "$_missing" ] && return 0
    if ! command -v apt-get >/dev/null; then
        echo "These Debian packages are needed, and there is no apt-get here:$_missing" >&2
        return 1
    fi
    if [ "$(id -u)" -ne 0 ]; then
        echo "Run this as root, or first: sudo apt-get install$_missing" >&2
        return 1
    fi
    echo "installing:$_missing"
    # shellcheck disable=SC2086
    if ! { apt-get update -q && DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -q --no-install-recommends $_missing; } >/tmp/partita-apt.$$ 2>&1; then
        tail -n 20 /tmp/partita-apt.$$ >&2
        rm -f /tmp/partita-apt.$$
        echo "apt-get could not install them; is a package mirror reachable?" >&2
        return 1
    fi
    rm -f /tmp/partita-apt.$$
}
