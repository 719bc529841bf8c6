#!/bin/bash
# Measures a three-node cluster on this machine: real processes, real disks, every acknowledgement after a sync on a quorum.
# bench.sh RESULTS [FOLDER]: appends lines of text and JSON to RESULTS; data goes to FOLDER (up to 15 GB, removed at the end).
# Run nothing else meanwhile. About five minutes after the build.
set -eu
out=$(realpath "$1"); folder=${2:-$(mktemp -d)}
cd "$(dirname "$0")/.."
cargo build --release --locked
waymark=$PWD/target/release/waymark
port=${PORT:-7601}; export WAYMARK_BOOTSTRAP=127.0.0.1:$port,127.0.0.1:$((port + 1)),127.0.0.1:$((port + 2))
say() { echo "waymark ${1:+$1 }$(cat)" | tee -a "$out"; }

# CPU seconds and resident memory of each node.
usage() {
    for node in 1 2 3; do
        local pid; pid=$(cat "$folder/$node.pid")
        awk -v hz="$(getconf CLK_TCK)" '{printf "%.1fs ", ($14+$15)/hz}' "/proc/$pid/stat"
        awk '/VmRSS/{printf "%dMB; ", $2/1024}' "/proc/$pid/status"
    done
}

start() {
    mkdir -p "$folder"
    local listed=""
    for node in 1 2 3; do
        listed+="[[cluster.nodes]]
id = $node
client = \"127.0.0.1:$((port + node - 1))\"
peer = \"127.0.0.1:$((port + node + 99))\"
"
    done
    for node in 1 2 3; do
        cat > "$folder/$node.toml" <<TOML
[node]
id = $node
data = "$folder/data-$node"
[listen]
client = "127.0.0.1:$((port + node - 1))"
peer = "127.0.0.1:$((port + node + 99))"
[metrics]
address = "127.0.0.1:$((port + node + 199))"
$listed
TOML
        "$waymark" node --config "$folder/$node.toml" 2> "$folder/$node.log" &
        echo $! > "$folder/$node.pid"
    done
    "$waymark" cluster health --wait 30s > /dev/null
}

stop() {
    for node in 1 2 3; do kill "$(cat "$folder/$node.pid")" 2> /dev/null || true; done
    wait
    rm -rf "$folder"
}
trap stop EXIT

bench() { "$waymark" bench "$@" 2>&1; }

start
usage | say "cpu,rss idle:"
# Not counted, as with the peers: a new journal writes its first files twice.
bench max --secs 10 > /dev/null
for _ in 1 2 3; do
    usage | say "cpu,rss:"
    bench max | say
    usage | say "cpu,rss:"
done
bench max --inflight 8192 --secs 10 | say "8 Ki in flight"
for _ in 1 2 3; do bench one --secs 8 | say; done
for _ in 1 2 3; do bench rate --rate 20000 --linger 5ms --secs 12 | say "20k/s"; done
for _ in 1 2 3; do bench read --secs 20 | say; done
for _ in 1 2 3; do bench commit --secs 10 | say; done
grep -h 'leader=None' "$folder"/*.log | wc -l | say "changes of leadership since the start:"
"$waymark" topic create many --partitions 1000 | say
sleep 10; usage | say "cpu,rss 1,000 partitions:"; sleep 20; usage | say "cpu,rss 20 s later:"
bench max --topic many --partitions 1000 | say "1,000 partitions"
bench rate --topic many --partitions 1000 --rate 20000 --linger 5ms --secs 12 | say "1,000 partitions, 20k/s"
kills=$(for node in 1 2 3; do printf '%s=%s,' "$node" "$(cat "$folder/$node.pid")"; done)
bench gap --secs 30 --kill "${kills%,}" | say
du -sm "$folder" | say "disk MB"
