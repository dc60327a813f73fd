#!/bin/sh
# /init of the guests of quickstart and of the tests. The kernel's command line says what it does:
#   partita.mode=shell  a shell on the console (the default); its end powers off
#   partita.mode=check  mount the disk, read a file from it and write one, read random
#                       bytes, power off
#   partita.mode=idle   do nothing until the power button is pressed
#   partita.mode=off    power off at once
# Lines that begin with "guest: " are for programs to read.
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev

mode=shell
read -r line </proc/cmdline
for word in $line; do
    case $word in
    partita.mode=*) mode=${word#*=} ;;
    esac
done

while read -r module; do
    insmod "/lib/modules/$module" || echo "guest: cannot load $module"
done </lib/modules/order
echo "guest: up $(cut -d ' ' -f 1 /proc/uptime)"

power_off() {
    umount /mnt 2>/dev/null
    sync
    poweroff -f
}

# The virtio disk may be found a moment after its driver was loaded.
mount_disk() {
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        if [ -b /dev/vda ]; then
            mount -t ext4 /dev/vda /mnt
            return
        fi
        sleep 0.2
    done
    echo "guest: there is no /dev/vda"
    return 1
}

case $mode in
check)
    if mount_disk; then
        echo "guest: uname $(uname -a)"
        echo "guest: read $(cat /mnt/hello.txt)"
        echo "guest: rng $(cat /sys/class/misc/hw_random/rng_current)" \
            "$(dd if=/dev/hwrng bs=8 count=1 2>/dev/null | hexdump -v -e '1/1 "%02x"')"
        { cat /mnt/hello.txt && uname -r; } >/mnt/from-guest.txt && echo "guest: wrote from-guest.txt"
    fi
    power_off
    ;;
off)
    power_off
    ;;
esac

# The button reaches user space as a key of an input device.
mkdir -p /etc/acpi/PWRF
printf '#!/bin/sh\necho "guest: power button"\numount /mnt 2>/dev/null\nsync\npoweroff -f\n' >/etc/acpi/PWRF/00000080
chmod 755 /etc/acpi/PWRF/00000080
acpid -d -l /dev/null >/dev/console 2>&1 &

if [ "$mode" = idle ]; then
    echo "guest: idle"
    while :; do sleep 3600; done
fi

[ -b /dev/vda ] && mount_disk
echo
echo "This is $(uname -sr) in a Partita machine. Its disk is mounted at /mnt."
echo "exit powers it off; Ctrl-A x ends the machine at once."
echo
cd /mnt || cd /
setsid cttyhack sh
power_off
