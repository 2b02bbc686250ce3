# Kernels that nodes run, as Debian ships them to clouds: the newest of each of these series, with the one driver that
# Pods need and that is a module there. KERNELS_DIR names a directory with kernels of your own instead.
# shellcheck shell=bash disable=SC2154

declare -A kernels=([5.10]=bullseye [6.1]=bookworm [6.12]=trixie)

fetch_kernels() {
    [[ -z ${KERNELS_DIR:-} ]] || return 0
    need xz xz-utils
    provide kernels "${!kernels[*]} ${kernels[*]}" fill_kernels "$here/debian.sh"
}

fill_kernels() {
    local series unpacked=$1/unpacked driver
    for series in "${!kernels[@]}"; do
        debian_suite=${kernels[$series]} given_by=KERNELS_DIR unpack "$unpacked" =linux-image-cloud-amd64
        mkdir "$1/$series"
        cp "$unpacked"/boot/vmlinuz-* "$1/$series/vmlinuz"
        driver=$(find "$unpacked" -path '*/drivers/net/veth.ko*')
        if [[ $driver == *.xz ]]; then
            xz --decompress --stdout "$driver" >"$1/$series/veth.ko"
        else
            cp "$driver" "$1/$series/veth.ko"
        fi
        basename "$unpacked"/boot/vmlinuz-* | sed 's/^vmlinuz-//' >"$1/$series/release"
        rm -rf "$unpacked"
    done
}

versions_kernels() {
    local series
    for series in $(printf '%s\n' "${!kernels[@]}" | sort -V); do
        row "kernel $series" "$(cat "${KERNELS_DIR:-$tools/kernels}/$series/release")"
    done
}
