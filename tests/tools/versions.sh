#!/usr/bin/env bash
# Prints the versions of everything the tests run besides the project's own code, as one table.
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
. "$here/provide.sh"

row rustc "$(cd "$root" && rustc --version | cut -d ' ' -f 2-)"
row cargo "$(cd "$root" && cargo --version | cut -d ' ' -f 2-)"
row kernel "$(uname -r)"
for group in "${groups[@]}"; do
    # shellcheck disable=SC1090
    . "$here/groups/$group.sh"
    "versions_$group" 2>/dev/null || true
done
