#!/usr/bin/env bash
# `make demo`: the main job for real, without a cluster. With --shell: a shell inside a Pod of it.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ -z "${CAIOS_IN_USERNS:-}" ]; then
    # Not in the user namespace: root in there may install no Debian package.
    echo "==> AWS CLI and boto3, pinned, under target/tools"
    PYTHON_CLIENTS="aws boto3" tests/tools/fetch.sh base python
fi
if [ "$(id -u)" != 0 ] && [ -z "${CAIOS_IN_USERNS:-}" ]; then
    if ! unshare --user --map-root-user true 2>/dev/null; then
        echo "the demo makes network namespaces: run it as root, or allow unprivileged user" \
            "namespaces (sysctl kernel.unprivileged_userns_clone=1, or" \
            "kernel.apparmor_restrict_unprivileged_userns=0 on Ubuntu)" >&2
        exit 1
    fi
    echo "==> not root: working in a user namespace of our own"
    CAIOS_IN_USERNS=1 exec unshare --user --map-root-user -- "$0" "$@"
fi

echo "==> building the agent, caios-enroll and the stand-in (some minutes the first time)"
tests/release.sh caios-agent demo
exec target/x86_64-unknown-linux-gnu/release/demo "$@"
