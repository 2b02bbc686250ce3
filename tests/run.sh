#!/usr/bin/env bash
# Everything that CI checks, in one run: `make test`.
#
# Every step runs, also after one has failed, so that one run shows all that is wrong. A step that
# runs tests counts each of them; any other step counts as one. The last line sums up.
set -uo pipefail
cd "$(dirname "$0")/.."

# Network namespaces need root, or a user namespace in which one is root. Debian packages are installed
# before it: root in there may not.
if [ "$(id -u)" != 0 ] && [ -z "${CAIOS_IN_USERNS:-}" ]; then
    tests/tools/fetch.sh >/dev/null || exit 1
    echo "not root: making network namespaces in a user namespace of our own"
    users=(--map-root-user)
    # Containers of the tests run as other users, which exist there where /etc/subuid has some for us.
    ! unshare --user --map-root-user --map-auto true 2>/dev/null || users+=(--map-auto)
    CAIOS_IN_USERNS=1 exec unshare --user "${users[@]}" -- "$0" "$@"
fi

logs=target/test-logs
mkdir -p "$logs"
passed=0 failed=0 failures=() missed=()
# Steps that run beside others: their processes, and when they began.
declare -A beside=() begun=()
started=$SECONDS

# step NAME COMMAND…: runs one step, shows it while it works, and counts it.
step() {
    local name=$1 log=$logs/${1// /-}.log since=${begun[$1]:-$SECONDS}
    shift
    printf '\n==> %s: %s\n' "$name" "$*"
    "$@" 2>&1 | tee "$log"
    local status=${PIPESTATUS[0]} ok bad
    ok=$(awk '/^test result:/ {n += $4} END {print n + 0}' "$log")
    bad=$(awk '/^test result:/ {n += $6} END {print n + 0}' "$log")
    if [ "$status" != 0 ]; then
        failures+=("$name")
        [ "$bad" != 0 ] || bad=1
    elif [ "$ok" = 0 ]; then
        ok=1
    fi
    passed=$((passed + ok)) failed=$((failed + bad))
    printf -- '--- %s: %s in %ss\n' "$name" "$([ "$status" = 0 ] && echo ok || echo FAILED)" \
        "$((SECONDS - since))"
}

# beside NAME COMMAND…: begins a step that the following ones need not wait for, and lets them go first. Such steps go
# one after the other.
beside() {
    local name=$1 last=${last_beside:-}
    shift
    {
        [ -z "$last" ] || tail --pid "$last" --follow /dev/null
        exec nice -n 19 "$@"
    } >"$logs/${name// /-}.beside.log" 2>&1 &
    last_beside=$!
    beside[$name]=$last_beside begun[$name]=$SECONDS
}

# join NAME: waits for a step that was begun beside others, shows and counts it.
join() {
    wait "${beside[$1]}"
    step "$1" ended $? "$logs/${1// /-}.beside.log"
}
ended() {
    cat "$2"
    return "$1"
}

# miss NAME WHY: names a step that cannot run here. That fails the run, unless CAIOS_WITHOUT_ROOT=1 says that
# it is meant.
miss() {
    printf '\n==> %s: NOT RUN: %s\n' "$1" "$2"
    missed+=("$1 ($2)")
    [ "${CAIOS_WITHOUT_ROOT:-}" = 1 ] || { failures+=("$1") && failed=$((failed + 1)); }
}

export CARGO_TERM_COLOR=never
export RUSTDOCFLAGS="-D warnings ${RUSTDOCFLAGS:-}"

step "basic tools" tests/tools/fetch.sh base
# On a new machine the others take as long as all steps that need none of them, and wait for the network half of it.
beside tools tests/tools/fetch.sh
step format cargo fmt --all --check
step lints cargo clippy --workspace --all-targets --locked --quiet -- -D warnings
# Targets that plain `cargo test` leaves out are not among all of them.
step "lints of tests" cargo clippy --workspace --test platform --test clients --test kernels --test node --locked --quiet -- -D warnings
step docs cargo doc --workspace --no-deps --document-private-items --locked --quiet
step "unit and component tests" cargo test --workspace --locked --quiet
join tools
step dependencies "${TOOLS_DIR:-target/tools}/deny/bin/cargo-deny" check -D warnings bans licenses sources
# Their tests wait much and compile little; on a new machine these binaries take minutes of both cores.
beside "shipped binaries" tests/binaries.sh
step "client tests" cargo test --workspace --test clients --locked -- --test-threads 2
step "platform tests" cargo test --workspace --test platform --locked -- --test-threads 2
join "shipped binaries"
step image tests/images.sh --check
# A node waits most of the time.
beside "kernel tests" cargo test --workspace --test kernels --locked -- --test-threads 2
beside "binaries of demo and bench" tests/release.sh caios-agent caios-injector caios-keeper bench demo
# A kubelet and a container runtime are root, and not in a user namespace.
if [ -z "${CAIOS_IN_USERNS:-}" ]; then
    step "node tests" env IMAGE_BUILT=1 cargo test --workspace --test node --locked
else
    miss "node tests" "they need root"
fi
join "kernel tests"
join "binaries of demo and bench"
step demo tests/demo.sh
# Nothing timed fails it: only an answer that is missing, and instructions that are counted.
step bench bench/bench.sh --quick --against bench/instructions.json

printf '\n%s in %s min; logs of every step: %s\n' \
    "$([ "$failed" = 0 ] && echo 'all green' || echo "failed: ${failures[*]}")" \
    "$(((SECONDS - started + 59) / 60))" "$logs"
for step in "${missed[@]}"; do
    echo "not run: $step; CAIOS_WITHOUT_ROOT=1 says that this is meant"
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
