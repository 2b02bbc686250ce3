#!/usr/bin/env bash
# `make figures`: what agent and webhook cost and how fast they answer, on this machine. Takes up to 7
# minutes after the build; let nothing else run meanwhile.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "$(id -u)" != 0 ] && [ -z "${CAIOS_IN_USERNS:-}" ]; then
    echo "==> not root: working in a user namespace of our own" >&2
    CAIOS_IN_USERNS=1 exec unshare --user --map-root-user -- "$0" "$@"
fi

tests/tools/fetch.sh base kubernetes etcd helm
echo "==> building release binaries (some minutes the first time)" >&2
cargo build --release --locked --package agent --package injector --package tests \
    --bin caios-agent --bin caios-injector --bin figures --bin webhook
cargo build --locked --profile tiny --no-default-features --package enroll --bin caios-enroll
target/x86_64-unknown-linux-gnu/release/figures
exec target/x86_64-unknown-linux-gnu/release/webhook
