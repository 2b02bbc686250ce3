#!/usr/bin/env bash
# Installs what the client tests, the platform tests and the demo need, at pinned versions, where it is missing:
#
#   tests/tools/fetch.sh [GROUP]…     default: all of those in tests/tools/groups
#
# Everything but Debian packages goes to target/tools (TOOLS_DIR changes that) and is kept until its inputs change.
# A group of which KUBERNETES_BIN_DIR, a directory such as envtest's, has every program (etcd; kubectl, helm3, helm4;
# prometheus, promtool; kube-apiserver, kube-controller-manager, kube-scheduler, kubelet) is taken from there.
# Packages come from the registries the tools are configured for. Prints one line `tool version` per tool.
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
. "$here/provide.sh"
. "$here/debian.sh"
for group in "${groups[@]}"; do
    # shellcheck disable=SC1090
    . "$here/groups/$group.sh"
done

[[ $# -gt 0 ]] || set -- "${groups[@]}"
for name in "$@"; do
    [[ -f $here/groups/$name.sh ]] || die "no group $name: choose from ${groups[*]}"
    "fetch_$name"
    "versions_$name"
done
