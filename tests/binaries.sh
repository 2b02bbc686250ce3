#!/usr/bin/env bash
# Builds what is shipped, and checks what is promised of it: static, and caios-enroll small.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build --locked --release --package agent --package injector --bin caios-agent --bin caios-injector
cargo build --locked --profile tiny --no-default-features --package enroll --bin caios-enroll
cargo build --locked --profile tiny --package keeper --bin caios-keeper
target=target/x86_64-unknown-linux-gnu
status=0
for binary in "$target"/release/caios-{agent,injector} "$target"/tiny/caios-{enroll,keeper}; do
    if readelf --program-headers "$binary" | grep -q INTERP; then
        echo "$binary is not static: it asks for an interpreter"
        status=1
    fi
    printf '%s: %s bytes\n' "$binary" "$(stat --format %s "$binary")"
done
# Every Pod of a node starts it: room for another feature, none for std.
limit=65536
if [ "$(stat --format %s "$target/tiny/caios-enroll")" -gt $limit ]; then
    echo "caios-enroll is larger than $limit bytes"
    status=1
fi
exit $status
