#!/usr/bin/env bash
# Builds what demo and bench run, in release: `tests/release.sh caios-agent demo`. Both with the same packages:
# what they have in common is compiled once.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build --release --locked --package agent --package injector --package keeper --package bench --package tests \
    "${@/#/--bin=}"
cargo build --locked --profile tiny --no-default-features --package enroll --bin caios-enroll
