# What the harness itself calls: namespaces, addresses, a C compiler for the crates that need one, CA certificates.
# shellcheck shell=bash disable=SC2154

fetch_base() {
    need ip iproute2
    need unshare util-linux
    need newuidmap uidmap
    need cc gcc libc6-dev
    [[ -s /etc/ssl/certs/ca-certificates.crt ]] || packages ca-certificates
}

versions_base() {
    row iproute2 "$(ip -V | sed 's/.*iproute2-//')"
    row util-linux "$(unshare --version | sed 's/.* //')"
    row cc "$(cc -dumpfullversion)"
}
