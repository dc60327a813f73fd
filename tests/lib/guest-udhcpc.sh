#!/bin/sh
# What busybox's udhcpc runs in the guests of the network tests: it sets what DHCP gave.
# shellcheck disable=SC2154
case $1 in
bound | renew)
    ip addr flush dev "$interface"
    ip addr add "$ip/$mask" dev "$interface"
    [ -z "$router" ] || ip route add default via "${router%% *}" dev "$interface"
    echo "guest: lease $interface $ip/$mask router ${router:-none} dns ${dns:-none} name ${hostname:-none}"
    ;;
esac
