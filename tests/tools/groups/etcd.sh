# etcd, which the API server keeps its objects in.
# shellcheck shell=bash disable=SC2154

fetch_etcd() {
    given etcd || provide etcd "$debian_suite" fill_etcd "$here/debian.sh"
}

fill_etcd() {
    unpack "$1/unpacked" etcd-server
    install -D -t "$1/bin" "$1/unpacked/usr/bin/etcd"
    rm -rf "$1/unpacked"
}

versions_etcd() {
    row etcd "$("$(program etcd)" --version | sed -n 's/^etcd Version: //p')"
}
