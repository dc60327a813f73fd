# shellcheck shell=sh
# What test guests and quickstart are made of: a stock Debian kernel, busybox, an initramfs, a disk.
# Sourced. Nothing is installed: packages are downloaded and unpacked under a cache folder, and what
# is there is not fetched again. Messages go to standard error; each function returns 0 or 1.

# The package whose dependency names the kernel; the architecture is that of the guest.
PTA_KERNEL_METAPACKAGE=${PTA_KERNEL_METAPACKAGE:-linux-image-cloud-amd64}

# The modules of the kernel's package that a guest of ours needs, without those they depend on.
# shellcheck disable=SC2034
PTA_GUEST_MODULES="virtio_mmio virtio_blk virtio-rng button evdev"

guest_complain() {
    printf '%s\n' "$@" >&2
}

# guest_kernel_package: prints what the metapackage depends on now.
guest_kernel_package() {
    apt-cache show --no-all-versions "$PTA_KERNEL_METAPACKAGE" 2>/dev/null |
        sed -n 's/^Depends: *\(linux-image-[^ ,]*\).*/\1/p' | head -n 1
}

# guest_unpack PACKAGE FOLDER: downloads a package and unpacks it into a new folder.
guest_unpack() {
    rm -rf "$2.new" && mkdir -p "$2.new/deb" "$2.new/root" || return 1
    if ! (cd "$2.new/deb" && apt-get -q -o APT::Sandbox::User=root download "$1") >"$2.new/log" 2>&1; then
        guest_complain "cannot download the package $1:" "$(tail -n 5 "$2.new/log")" \
            "Is a package mirror reachable? As root, 'apt-get update' refreshes the list of packages."
        return 1
    fi
    if ! dpkg-deb -x "$2.new/deb/"*.deb "$2.new/root"; then
        guest_complain "cannot unpack the package $1; is the disk full?"
        return 1
    fi
    rm -rf "$2" "$2.new/deb" && mv "$2.new" "$2"
}

# guest_fetch CACHE: CACHE/guest/vmlinuz, CACHE/guest/kernel (its package), CACHE/guest/busybox.
guest_fetch() {
    _dir=$1/guest
    mkdir -p "$_dir" || return 1
    if ! [ -s "$_dir/vmlinuz" ] || ! [ -d "$_dir/kernel/root" ]; then
        if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
            guest_complain "The guest's kernel is a Debian package, and there is no apt-get here." \
                "Put a kernel at $_dir/vmlinuz and its modules at $_dir/kernel/root/lib/modules."
            return 1
        fi
        _package=$(guest_kernel_package)
        if [ -z "$_package" ] && [ "$(id -u)" -eq 0 ]; then
            apt-get -q update >/dev/null 2>&1
            _package=$(guest_kernel_package)
        fi
        if [ -z "$_package" ]; then
            guest_complain "No package $PTA_KERNEL_METAPACKAGE is known here: run 'apt-get update' as root," \
                "and see that a Debian mirror is among the sources in /etc/apt."
            return 1
        fi
        guest_unpack "$_package" "$_dir/kernel" || return 1
        cp "$_dir/kernel/root/boot/vmlinuz-"* "$_dir/vmlinuz" || return 1
    fi
    if ! [ -x "$_dir/busybox" ]; then
        guest_unpack busybox-static "$_dir/busybox-package" || return 1
        cp "$_dir/busybox-package/root/bin/busybox" "$_dir/busybox" || return 1
    fi
}

# guest_module_file MODULES NAME: prints the file of a module; '-' and '_' are the same in names.
guest_module_file() {
    _pattern=$(printf '%s' "$2" | sed 's/[-_]/[-_]/g')
    find "$1" -name "$_pattern.ko" -o -name "$_pattern.ko.xz" -o -name "$_pattern.ko.zst" | head -n 1
}

# guest_copy_module FILE TO: uncompressed, so that any insmod takes it.
guest_copy_module() {
    case $1 in
    *.xz) xz -dc "$1" >"$2" ;;
    *.zst) zstd -qdc "$1" >"$2" ;;
    *) cp "$1" "$2" ;;
    esac
}

# guest_add_module MODULES NAME FOLDER: the module and, before it, what its .modinfo says that it
# depends on; FOLDER/order lists the files in the order in which they are to be loaded.
guest_add_module() {
    _name=$(printf '%s' "$2" | tr - _)
    grep -qx "$_name.ko" "$3/order" 2>/dev/null && return 0
    _file=$(guest_module_file "$1" "$2")
    if [ -z "$_file" ]; then
        grep -q "/$(printf '%s' "$2" | sed 's/[-_]/[-_]/g')\.ko" "$1"/modules.builtin && return 0
        guest_complain "The kernel's package has no module $2."
        return 1
    fi
    guest_copy_module "$_file" "$3/$_name.ko" || return 1
    for _needed in $(tr '\0' '\n' <"$3/$_name.ko" | sed -n 's/^depends=//p' | tr , ' '); do
        # A subshell keeps this level's variables; what it adds is in files.
        (guest_add_module "$1" "$_needed" "$3") || return 1
    done
    echo "$_name.ko" >>"$3/order"
}

# guest_unpack_program PACKAGE FOLDER: a package and all that it depends on, in one tree.
guest_unpack_program() {
    _packages=$(apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks \
        --no-replaces --no-enhances "$1" 2>/dev/null | grep '^[a-z]' | sort -u)
    [ -n "$_packages" ] || {
        guest_complain "No package $1 is known here: run 'apt-get update' as root."
        return 1
    }
    rm -rf "$2.new" && mkdir -p "$2.new/deb" "$2.new/root" || return 1
    # shellcheck disable=SC2086
    if ! (cd "$2.new/deb" && apt-get -q -o APT::Sandbox::User=root download $_packages) \
        >"$2.new/log" 2>&1; then
        guest_complain "cannot download what $1 needs:" "$(tail -n 5 "$2.new/log")"
        return 1
    fi
    for _deb in "$2.new/deb/"*.deb; do
        dpkg-deb -x "$_deb" "$2.new/root" || return 1
    done
    rm -rf "$2" "$2.new/deb" && mv "$2.new" "$2"
}

# guest_add_program ROOT FILE TREE: a program of such a tree goes to TREE/bin, with the loader and the
# libraries that it and they name.
guest_add_program() {
    mkdir -p "$3/bin" "$3/lib64" "$3/lib/x86_64-linux-gnu" && cp "$1/$2" "$3/bin/" || return 1
    _todo=$1/$2
    while [ -n "$_todo" ]; do
        _needed=$(for _file in $_todo; do objdump -p "$_file"; done | awk '$1 == "NEEDED" { print $2 }')
        _todo=
        for _library in $_needed; do
            _to=$3/lib/x86_64-linux-gnu/$_library
            [ -e "$_to" ] && continue
            _file=$(find "$1/lib" "$1/usr/lib" -name "$_library" | head -n 1)
            if [ -z "$_file" ] || ! cp -L "$_file" "$_to"; then
                guest_complain "$_library, which $2 needs, is in none of its packages."
                return 1
            fi
            _todo="$_todo $_to"
        done
    done
    cp -L "$3/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2" "$3/lib64/"
}

# guest_modules CACHE FOLDER [MODULE…]: modules of the kernel's package, uncompressed, and FOLDER/order.
guest_modules() {
    _modules=
    for _folder in "$1/guest/kernel/root/lib/modules/"* "$1/guest/kernel/root/usr/lib/modules/"*; do
        [ -d "$_folder" ] && _modules=$_folder
    done
    _to_folder=$2
    shift 2
    mkdir -p "$_to_folder" && : >"$_to_folder/order" || return 1
    for _module in "$@"; do
        guest_add_module "$_modules" "$_module" "$_to_folder" || return 1
    done
}

# guest_initramfs CACHE INIT OUT [MODULE…]: an initramfs with busybox, INIT as /init, modules, and
# what is in the folder GUEST_EXTRA, if that is set.
# Not compressed: a guest in software would unpack it more slowly than it is read.
guest_initramfs() {
    _guest=$(cd "$1/guest" && pwd) _cache=$1 _init=$2 _out=$3
    shift 3
    _tree=$_out.tree
    rm -rf "$_tree"
    mkdir -p "$_tree/bin" "$_tree/dev" "$_tree/proc" "$_tree/sys" "$_tree/tmp" "$_tree/mnt" \
        "$_tree/etc" "$_tree/lib/modules" || return 1
    cp "$_guest/busybox" "$_tree/bin/busybox" && cp "$_init" "$_tree/init" &&
        chmod 755 "$_tree/bin/busybox" "$_tree/init" || return 1
    [ -z "${GUEST_EXTRA:-}" ] || cp -R "$GUEST_EXTRA/." "$_tree" || return 1
    for _applet in $("$_guest/busybox" --list); do
        [ -e "$_tree/bin/$_applet" ] || ln -s busybox "$_tree/bin/$_applet"
    done
    guest_modules "$_cache" "$_tree/lib/modules" "$@" || return 1
    (cd "$_tree" && find . | LC_ALL=C sort | "$_guest/busybox" cpio -o -H newc -R 0:0 2>/dev/null) \
        >"$_out.new" || {
        guest_complain "cannot write $_out; is the disk full?"
        return 1
    }
    rm -rf "$_tree"
    mv "$_out.new" "$_out"
}

# guest_disk OUT SIZE FOLDER: an ext4 image with the files of a folder.
guest_disk() {
    _mke2fs=$(PATH=$PATH:/sbin:/usr/sbin command -v mke2fs) || {
        guest_complain "mke2fs is not there; its Debian package is e2fsprogs."
        return 1
    }
    rm -f "$1"
    "$_mke2fs" -q -t ext4 -d "$3" "$1" "$2" >&2
}

# guest_disk_read IMAGE PATH: prints a file of an ext4 image, without mounting it.
guest_disk_read() {
    PATH=$PATH:/sbin:/usr/sbin debugfs -R "cat $2" "$1" 2>/dev/null
}
