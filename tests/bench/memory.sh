#!/bin/sh
# What the process of an idle Debian guest needs beyond the guest's own memory: its proportional set
# size (PSS), by mapping, without the pages of the guest's RAM.
# usage: memory.sh; MEMORY_LIMIT (8): MiB to stay below
set -u
limit=${MEMORY_LIMIT:-8}
# shellcheck source=tests/bench/lib.sh
. "${srcdir:-.}/tests/bench/lib.sh"
bench_guest
truncate -s 16M "$dir/disk.img"
cat >"$dir/m.json" <<JSON
{ "name": "bench", "partition": { "backend": "soft" }, "memory": { "size": "256M" },
  "boot": { "kernel": "$cache/guest/vmlinuz", "initrd": "$cache/guest/initrd.img",
            "cmdline": "console=ttyS0 panic=-1 partita.mode=idle" },
  "devices": [
    { "id": "serial0", "type": "uart16550", "chardev": { "type": "stdio" } },
    { "id": "disk0", "type": "virtio-blk", "block": { "type": "file", "path": "disk.img" } },
    { "id": "rng0", "type": "virtio-rng" } ],
  "monitor": [ { "type": "unix", "path": "vm.sock" } ],
  "on-shutdown": "exit", "on-reset": "exit", "on-crash": "exit" }
JSON

"$partita" run --quiet "$dir/m.json" </dev/null >"$dir/log" 2>&1 &
child=$!
waited=0
until grep -aq "guest: idle" "$dir/log"; do
    if [ $waited -ge 300 ] || ! kill -0 $child 2>/dev/null; then
        bench_fail "the guest does not come up" "$dir/log"
    fi
    sleep 1
    waited=$((waited + 1))
done
sleep 2

# A mapping's first line is "start-end permissions offset device inode name".
awk '/^[0-9a-f]+-[0-9a-f]+ /{ name = NF > 5 ? $6 : "anonymous"; sub(".*/", "", name) }
    /^Pss:/ { pss[name] += $2 } /^Private_Dirty:/ { dirty[name] += $2 }
    END { for (name in pss) if (pss[name]) print pss[name], dirty[name], name }' \
    "/proc/$child/smaps" | sort -rn >"$dir/table"
kill -KILL $child 2>/dev/null
wait $child 2>/dev/null
child=
grep -q 'memfd:guest-ram' "$dir/table" || bench_fail "no mapping of the guest's RAM" "$dir/table"

echo "memory of an idle Debian guest's process, PSS in KiB (of it private and dirty):"
awk '$3 ~ /memfd:guest-ram/ { printf "  %8d (%7d)  the guest: %s\n", $1, $2, $3; next }
    $1 >= 16 { printf "  %8d (%7d)  %s\n", $1, $2, $3; next }
    { n++; pss += $1; dirty += $2 }
    END { if (n) printf "  %8d (%7d)  %d smaller mappings\n", pss, dirty, n }' "$dir/table"
own=$(awk '$3 !~ /memfd:guest-ram/ { s += $1 } END { printf "%.2f", s / 1024 }' "$dir/table")
goal "memory of the VMM beyond the guest's, MiB" "$own" most "$limit"
exit $missed
