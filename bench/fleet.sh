#!/usr/bin/env bash
# `make fleet`: a day of a thousand agents under simulated time. `make fleet ARGUMENTS='--nodes 10000 --limit 50'`
# changes it; `--help` says how.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --release --locked --quiet --package fleet
mkdir -p bench/results
commit=$(git describe --always --dirty)
{
    printf '`make fleet%s`, at %s\n\n' "${*:+ ARGUMENTS=\"$*\"}" "$commit"
    target/x86_64-unknown-linux-gnu/release/fleet --plot bench/results/fleet.svg "$@"
} | tee bench/results/fleet.md
