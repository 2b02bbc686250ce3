# Kubernetes itself: the control plane that the platform tests talk to, and the parts of a node, which cost little more.
# Built from the Go module that it is published as; tests/tools/kubernetes/go.mod pins it and all that it is made of.
# shellcheck shell=bash disable=SC2154

kubernetes_programs=(kube-apiserver kube-controller-manager kube-scheduler kubelet)

fetch_kubernetes() {
    given "${kubernetes_programs[@]}" && return
    need go golang-go ca-certificates
    provide kubernetes "$(sed -n 's/^toolchain //p' "$clients/go/go.mod")" fill_kubernetes \
        "$here/kubernetes/go.mod" "$here/kubernetes/go.sum"
}

fill_kubernetes() {
    local go version stamp=k8s.io/component-base/version
    go=$(go_program)
    version=$(sed -n 's|^\tk8s.io/kubernetes v\([0-9.]*\).*|\1|p' "$here/kubernetes/go.mod")
    say "building Kubernetes $version: several minutes, once"
    # Unstamped binaries call themselves v0.0.0, and charts that ask for a version of Kubernetes refuse that.
    (cd "$here/kubernetes" && GOCACHE=$1/cache GOBIN=$1/bin GOTOOLCHAIN=local GOFLAGS=-mod=readonly CGO_ENABLED=0 \
        "$go" install -trimpath -ldflags "-s -w -X $stamp.gitVersion=v$version -X $stamp.gitMajor=${version%%.*} \
-X $stamp.gitMinor=$(cut -d . -f 2 <<<"$version") -X $stamp.gitCommit=none -X $stamp.gitTreeState=clean \
-X $stamp.buildDate=2026-01-01T00:00:00Z" "${kubernetes_programs[@]/#/k8s.io/kubernetes/cmd/}")
    # 2 GB that nothing asks for again.
    rm -rf "$1/cache"
}

versions_kubernetes() {
    local name
    for name in "${kubernetes_programs[@]}"; do
        row "$name" "$("$(program "$name")" --version | sed 's/^Kubernetes v//')"
    done
}
