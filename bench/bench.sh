#!/usr/bin/env bash
# `make bench`: how fast and how small agent and webhook are, against the limit and against what users would do
# without them. Some minutes after the build; let nothing else run meanwhile. `--quick` shows within a minute that
# everything works.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "$(id -u)" != 0 ] && [ -z "${CAIOS_IN_USERNS:-}" ]; then
    echo "==> not root: working in a user namespace of our own" >&2
    CAIOS_IN_USERNS=1 exec unshare --user --map-root-user -- "$0" "$@"
fi

tests/tools/fetch.sh base valgrind >&2
quick=
[[ " $* " != *" --quick "* ]] || quick=1
# The webhook is measured by a real API server.
[[ $quick ]] || tests/tools/fetch.sh kubernetes etcd helm >&2
echo "==> building release binaries (some minutes the first time)" >&2
tests/release.sh caios-agent caios-injector caios-keeper bench
exec target/x86_64-unknown-linux-gnu/release/bench "$@"
