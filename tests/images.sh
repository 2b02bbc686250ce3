#!/usr/bin/env bash
# `make images`: builds the binaries, stages them, and makes an image of them that every runtime can
# load. With --check, what `make test` runs: from release binaries, twice, and looks into the image.
#
#   IMAGE=localhost/caios-credential-agent:VERSION  what the image is called
#   IMAGE_ARCH=amd64|arm64               default: this machine's
#   IMAGE_PROFILE=dist|release|dev       dist is what is shipped; release is quicker to build, dev quickest
#   IMAGE_CA_BUNDLE=FILE                 certificate authorities; default: this machine's
set -euo pipefail
cd "$(dirname "$0")/.."

check=
[ "${1:-}" != --check ] || check=1
[ -z "$check" ] || IMAGE_PROFILE=release

version=$(sed -n '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"/\1/p' Cargo.toml)
image=${IMAGE:-localhost/caios-credential-agent:$version}
profile=${IMAGE_PROFILE:-dist}
bundle=${IMAGE_CA_BUNDLE:-/etc/ssl/certs/ca-certificates.crt}
case ${IMAGE_ARCH:-$(uname -m)} in
    amd64 | x86_64) arch=amd64 triple=x86_64-unknown-linux-gnu ;;
    arm64 | aarch64) arch=arm64 triple=aarch64-unknown-linux-gnu ;;
    *) echo "IMAGE_ARCH is ${IMAGE_ARCH:-$(uname -m)}: must be amd64 or arm64" >&2 && exit 64 ;;
esac
command -v buildah >/dev/null || {
    echo "no buildah: install it with \`tests/tools/fetch.sh buildah\`" >&2
    exit 1
}
# The build configuration has the flags of the machine that CI runs on; said twice, everything would be
# built twice.
if [ "$triple" != x86_64-unknown-linux-gnu ]; then
    variable=CARGO_TARGET_$(tr a-z- A-Z_ <<<"$triple")_RUSTFLAGS
    export "$variable=-C target-feature=+crt-static"
fi

build() {
    cargo build --quiet --locked --target "$triple" --profile "$1" "${@:2}"
}
# Together: what both are made of is then built once, here and in tests/binaries.sh.
build "$profile" --package agent --package injector --bin caios-agent --bin caios-injector
build tiny --no-default-features --package enroll --bin caios-enroll
build tiny --package keeper --bin caios-keeper

built=target/$triple
folder=${profile/#dev/debug}
staged=target/image/$arch
rm -rf "$staged"
install -D --mode 0755 --target-directory "$staged" \
    "$built/$folder"/caios-{agent,injector} "$built"/tiny/caios-{enroll,keeper}
install -D --mode 0644 "$bundle" "$staged/etc/ssl/certs/ca-certificates.crt"
chmod -R u=rwX,go=rX "$staged"
find "$staged" -exec touch --no-dereference --date @0 {} +

# Its storage is a place of its own, gone at the end.
work=$(mktemp --directory target/image/build.XXXXXX)
store() {
    buildah --storage-driver vfs --root "$PWD/$work/storage" --runroot "$PWD/$work/run" "$@"
}
finish() {
    store rm --all >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap finish EXIT

# make REFERENCE ARCHIVE: builds the image; the same files give the same image.
make() {
    store bud --quiet --isolation chroot --timestamp 0 --arch "$arch" --build-arg "TARGETARCH=$arch" \
        --ignorefile .dockerignore --file Dockerfile --tag "$1" . >/dev/null
    rm -f "$2"
    store push --quiet --digestfile "$2.digest" "$1" "docker-archive:$2:$1"
}
archive=target/image/caios-credential-agent-$arch.tar
make "$image" "$archive"
printf '%s\n  %s bytes, %s, profile %s\n  %s\n' "$image" "$(stat --format %s "$archive")" "$arch" \
    "$profile" "$(cat "$archive.digest")"
printf '  load it: docker load --input %s, or ctr --namespace k8s.io images import %s\n' \
    "$archive" "$archive"
[ -n "$check" ] || exit 0

failed=
expect() {
    [ "$2" = "$3" ] || { printf '%s\n--- is:\n%s\n--- must be:\n%s\n' "$1" "$2" "$3" && failed=1; }
}
first=$(cat "$archive.digest")
make "$image" "$archive"
expect "the same files give another image" "$(cat "$archive.digest")" "$first"

store rmi "$image" >/dev/null
loaded=$(store from --quiet "docker-archive:$archive")
expect "the user" "$(store inspect --format '{{.OCIv1.Config.User}}' "$loaded")" 65532:65532
expect "the architecture" "$(store inspect --format '{{.OCIv1.Architecture}}' "$loaded")" "$arch"
root=$(store mount "$loaded")
expect "the files" "$(find "$root" -mindepth 1 -printf '%M %U:%G %P\n' | sort --key 3)" "\
-rwxr-xr-x 0:0 caios-agent
-rwxr-xr-x 0:0 caios-enroll
-rwxr-xr-x 0:0 caios-injector
-rwxr-xr-x 0:0 caios-keeper
drwxr-xr-x 0:0 etc
drwxr-xr-x 0:0 etc/ssl
drwxr-xr-x 0:0 etc/ssl/certs
-rw-r--r-- 0:0 etc/ssl/certs/ca-certificates.crt"
for binary in caios-agent caios-enroll caios-injector caios-keeper; do
    said=$(chroot "$root" "/$binary" --version 2>&1)
    expect "/$binary --version" "${said##* }" "$version"
done
grep -q 'BEGIN CERTIFICATE' "$root/etc/ssl/certs/ca-certificates.crt" ||
    expect "the CA bundle" "no certificate" "some"
[ -z "$failed" ]
