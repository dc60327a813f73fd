#!/bin/sh
# /init of a Debian guest that moves from one back end to another (move.c): for ever, a line that says how
# it is. Laid over that of tests/lib/guest-init.sh.
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
while read -r module; do insmod "/lib/modules/$module"; done </lib/modules/order

n=0
while :; do
    n=$((n + 1))
    # A sector of the disk is written, and read again past the cache.
    echo "sector $n" | dd of=/dev/vda bs=512 seek=$((n % 64)) conv=sync oflag=direct 2>/dev/null
    line=$(dd if=/dev/vda bs=512 skip=$((n % 64)) count=1 iflag=direct 2>/dev/null | tr -d '\0')
    word=ok
    [ "$line" = "sector $n" ] || word=the-disk-is-wrong
    # On another CPU than the last time, if there is one.
    taskset -p $((1 << n % $(nproc))) $$ >/dev/null 2>&1
    read -r up _ </proc/uptime
    echo "beat $n at $up $word"
    usleep 50000
done
