#!/usr/bin/env bash
# Installs what the client tests and the demo need, at pinned versions, where it is missing:
#
#   tests/tools/fetch.sh [base|python|node|go|java|deny]…     default: all of them
#
# Everything but Debian packages goes to target/tools (TOOLS_DIR changes that) and is kept until its inputs change.
# Packages come from the registries the tools are configured for. Prints one line `tool version` per tool.
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
. "$here/provide.sh"
for group in base python node go java deny; do
    # shellcheck disable=SC1090
    . "$here/groups/$group.sh"
done

for group in "${@:-base python node go java deny}"; do
    for name in $group; do
        [[ -f $here/groups/$name.sh ]] || die "no group $name: choose from base python node go java deny"
        "fetch_$name"
        "versions_$name"
    done
done
