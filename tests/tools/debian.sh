# Sourced by fetch.sh: packages of one Debian suite, unpacked beside the system instead of installed.
# shellcheck shell=bash

# The suite that the unpacked packages come from, whatever the machine runs: bookworm's etcd is too old for the API server.
debian_suite=trixie

# unpack FOLDER PACKAGE…: fetches packages of the suite through the machine's own mirror and unpacks them there.
unpack() {
    local folder=$1 codename mirror work file
    shift
    codename=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")
    # shellcheck disable=SC2016
    mirror=$(apt-get indextargets 'Created-By: Packages' --format '$(RELEASE) $(REPO_URI)' |
        awk -v codename="$codename" '$1 == codename { print $2; exit }')
    [[ -n $mirror && -s /usr/share/keyrings/debian-archive-keyring.gpg ]] ||
        die "no Debian mirror to fetch $* from: put the programs into a directory and set KUBERNETES_BIN_DIR"
    work=$folder/apt
    mkdir -p "$work"/{parts,lists/partial,cache/archives/partial}
    printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: %s\n' \
        "$mirror" "$debian_suite" /usr/share/keyrings/debian-archive-keyring.gpg >"$work/parts/suite.sources"
    local apt=(apt-get -qq -o Dir::Etc::sourcelist=/dev/null -o "Dir::Etc::sourceparts=$work/parts"
        -o "Dir::State::lists=$work/lists" -o "Dir::Cache=$work/cache" -o "APT::Sandbox::User=$(id -un)")
    (cd "$work" && "${apt[@]}" update && "${apt[@]}" download "$@")
    for file in "$work"/*.deb; do
        dpkg -x "$file" "$folder"
    done
    rm -rf "$work"
}
