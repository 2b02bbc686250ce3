# What a node runs Pods with: containerd, runc, and the CNI plugins of a plain bridge.
# shellcheck shell=bash disable=SC2154

# An older suite than the other packages': programs that are linked against its libraries run on newer machines too.
runtime_suite=bookworm

fetch_runtime() {
    provide runtime "$runtime_suite" fill_runtime "$here/debian.sh"
}

fill_runtime() {
    local debian_suite=$runtime_suite
    unpack "$1/unpacked" containerd runc containernetworking-plugins libseccomp2
    install -D -t "$1/bin" "$1"/unpacked/usr/bin/{containerd,containerd-shim-runc-v2,ctr} "$1/unpacked/usr/sbin/runc"
    install -D -t "$1/cni" "$1"/unpacked/usr/lib/cni/{bridge,host-local,loopback}
    # runc's, where the machine has none.
    install -D -t "$1/lib" "$1"/unpacked/usr/lib/*/libseccomp.so.2
    # The plugins do not know their own version.
    zcat "$1"/unpacked/usr/share/doc/containernetworking-plugins/changelog.Debian.gz |
        sed -n '1s/.*(\(.*\)).*/\1/p' >"$1/cni-version"
    rm -rf "$1/unpacked"
}

versions_runtime() {
    row containerd "$("$tools/runtime/bin/containerd" --version | cut -d ' ' -f 3)"
    row runc "$(LD_LIBRARY_PATH=$tools/runtime/lib "$tools/runtime/bin/runc" --version | sed -n 's/^runc version //p')"
    row cni-plugins "$(cat "$tools/runtime/cni-version")"
}
