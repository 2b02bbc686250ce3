# Sourced by fetch.sh and versions.sh: where the tools live and how one of them gets there.
# shellcheck shell=bash disable=SC2034

# A failure inside $(…) ends the script too.
shopt -s inherit_errexit

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
clients=$root/tests/clients
tools=${TOOLS_DIR:-$root/target/tools}
groups=(base python node go java deny kubernetes etcd helm prometheus schemas buildah qemu kernels runtime workload valgrind)

say() {
    printf 'tools: %s\n' "$*" >&2
}

die() {
    say "$*"
    exit 1
}

# given PROGRAM…: whether KUBERNETES_BIN_DIR, a directory such as envtest's, has all of these, so that none is installed.
given() {
    local name
    for name in "$@"; do
        [[ -n ${KUBERNETES_BIN_DIR:-} && -x $KUBERNETES_BIN_DIR/$name ]] || return 1
    done
}

# program NAME: the path of one: what is given goes before what was installed.
program() {
    if given "$1"; then
        printf '%s\n' "$KUBERNETES_BIN_DIR/$1"
    else
        local found=("$tools"/*/bin/"$1")
        printf '%s\n' "${found[0]}"
    fi
}

# row NAME VERSION: one line of the table of versions; false where there is no version.
row() {
    printf '%-24s %s\n' "$1" "${2:-missing: tests/tools/fetch.sh installs it}"
    [[ -n $2 ]]
}

# need COMMAND PACKAGE…: installs Debian packages where a command is missing.
need() {
    command -v "$1" >/dev/null || packages "${@:2}"
}

packages() {
    local as_root=()
    if [[ $(id -u) -ne 0 ]]; then
        command -v sudo >/dev/null || die "run as root, or install first: $*"
        as_root=(sudo)
    fi
    say "installing Debian packages: $*"
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2
}

# provide NAME STAMP FUNCTION INPUT…: makes $tools/NAME a link to a folder named after the content of the inputs,
# the text STAMP and the group's script. A missing folder is filled by `FUNCTION FOLDER FINAL` under a temporary name, on
# which it must not depend, and renamed to FINAL when complete; so a folder that exists is whole.
provide() {
    local name=$1 stamp=$2 fill=$3 digest final lock start=$SECONDS
    shift 3
    mkdir -p "$tools"
    digest=$({
        printf '%s\n' "$stamp"
        cat "${BASH_SOURCE[1]}" "$@"
    } | sha256sum | cut -c 1-16)
    final=$tools/.store/$name-$digest
    mkdir -p "$tools/.store"
    exec {lock}>"$tools/.store/$name.lock"
    flock "$lock"
    if [[ ! -d $final ]]; then
        say "installing $name"
        # What an interrupted run left; the lock says that nobody is using it.
        rm -rf "$tools/.store/$name".??????
        (
            temporary=$(mktemp -d "$tools/.store/$name.XXXXXX")
            trap 'rm -rf "$temporary"' EXIT
            "$fill" "$temporary" "$final" >&2
            chmod 755 "$temporary"
            mv -T "$temporary" "$final"
        )
        say "installed $name: $((SECONDS - start)) s, $(du -sh "$final" | cut -f 1)"
    fi
    ln -sfnT ".store/$name-$digest" "$tools/$name"
    exec {lock}>&-
}
