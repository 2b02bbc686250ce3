# The AWS SDK for Go v2 and minio-go, built by the toolchain that go.mod names. A machine with an older Go, or
# with one that cannot fetch toolchains itself (before 1.21), gets that toolchain as the Go module it is published as.
# shellcheck shell=bash disable=SC2154

fetch_go() {
    need go golang-go ca-certificates
    local sources
    mapfile -t sources < <(find "$clients/go" -type f | sort)
    provide go "" fill_go "${sources[@]}"
}

fill_go() {
    local go
    go=$(go_program)
    mkdir "$1/bin"
    (cd "$clients/go" && GOTOOLCHAIN=local GOFLAGS=-mod=readonly CGO_ENABLED=0 \
        "$go" build -trimpath -buildvcs=false -o "$1/bin/" ./sdkv2 ./minio ./load)
    "$go" version >"$1/toolchain"
}

# The path of a Go that is at least as new as go.mod asks for.
go_program() {
    local wanted present folder
    wanted=$(sed -n 's/^toolchain go//p' "$clients/go/go.mod")
    present=$(cd / && GOTOOLCHAIN=local go version | sed 's/.* go\([0-9.]*\) .*/\1/')
    if [[ $(printf '%s\n' "$wanted" "$present" | sort -V | head -n 1) == "$wanted" ]]; then
        command -v go
        return
    fi
    say "go is $present, fetching $wanted"
    folder=$(cd / && GOTOOLCHAIN=local go mod download -json \
        "golang.org/toolchain@v0.0.1-go$wanted.linux-$(cd / && GOTOOLCHAIN=local go env GOARCH)" |
        sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
    [[ -n $folder ]] || die "go $wanted is not to be had from the Go module proxy"
    # Modules are stored without the permission to execute.
    chmod -R u+w,+x "$folder/bin" "$folder/pkg/tool"
    printf '%s\n' "$folder/bin/go"
}

versions_go() {
    row go "$(sed 's/.* go\([0-9.]*\) .*/\1/' "$tools/go/toolchain")"
    row aws-sdk-go-v2 "$(go_module sdkv2 github.com/aws/aws-sdk-go-v2)"
    row minio-go "$(go_module minio github.com/minio/minio-go/v7)"
}

# go_module PROGRAM MODULE: the version of the module in the program.
go_module() {
    go version -m "$tools/go/bin/$1" | awk -v module="$2" '$1 == "dep" && $2 == module { print $3 }'
}
