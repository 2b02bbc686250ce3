# buildah, which builds the image without a daemon. Installed, not unpacked: it needs the libraries and the configuration
# of its packages where they belong.
# shellcheck shell=bash disable=SC2154

fetch_buildah() {
    need buildah buildah
}

versions_buildah() {
    row buildah "$(buildah --version | sed 's/^buildah version \([^ ]*\).*/\1/')"
}
