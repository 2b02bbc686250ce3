# qemu, which boots other kernels without anything of this machine's own. Installed, not unpacked: it needs the
# libraries and the firmware of its packages where they belong.
# shellcheck shell=bash disable=SC2154

fetch_qemu() {
    need qemu-system-x86_64 qemu-system-x86
}

versions_qemu() {
    row qemu "$(qemu-system-x86_64 --version | sed -n 's/^QEMU emulator version \([^ ]*\).*/\1/p')"
}
