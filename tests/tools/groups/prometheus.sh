# Prometheus, which scrapes the binaries, and promtool, which checks their metrics and the chart's rules.
# shellcheck shell=bash disable=SC2154

fetch_prometheus() {
    given prometheus promtool || provide prometheus "$debian_suite" fill_prometheus "$here/debian.sh"
}

fill_prometheus() {
    unpack "$1/unpacked" prometheus promtool
    install -D -t "$1/bin" "$1"/unpacked/usr/bin/{prometheus,promtool}
    rm -rf "$1/unpacked"
}

versions_prometheus() {
    row prometheus "$("$(program prometheus)" --version 2>&1 | sed -n 's/^prometheus, version \([^ ]*\).*/\1/p')"
    row promtool "$("$(program promtool)" --version 2>&1 | sed -n 's/^promtool, version \([^ ]*\).*/\1/p')"
}
