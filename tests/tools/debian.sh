# Sourced by fetch.sh: packages of one Debian suite, unpacked beside the system instead of installed.
# shellcheck shell=bash

# The suite that the unpacked packages come from, whatever the machine runs: bookworm's etcd is too old for the API server.
debian_suite=trixie
# What names a directory that is used instead where there is no such mirror.
given_by=KUBERNETES_BIN_DIR

# unpack FOLDER PACKAGE…: fetches packages of the suite through the machine's own mirror and unpacks them there.
# `=PACKAGE` stands for the one package that PACKAGE depends on: the newest of a series.
unpack() {
    local folder=$1 codename mirror work file name
    shift
    codename=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")
    # shellcheck disable=SC2016
    mirror=$(apt-get indextargets 'Created-By: Packages' --format '$(RELEASE) $(REPO_URI)' |
        awk -v codename="$codename" '$1 == codename { print $2; exit }')
    [[ -n $mirror && -s /usr/share/keyrings/debian-archive-keyring.gpg ]] ||
        die "no Debian mirror to fetch $* from: put what they have into a directory and set $given_by"
    work=$folder/apt
    mkdir -p "$work"/{parts,lists/partial,cache/archives/partial}
    printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: %s\n' \
        "$mirror" "$debian_suite" /usr/share/keyrings/debian-archive-keyring.gpg >"$work/parts/suite.sources"
    local options=(-o Dir::Etc::sourcelist=/dev/null -o "Dir::Etc::sourceparts=$work/parts"
        -o "Dir::State::lists=$work/lists" -o "Dir::Cache=$work/cache" -o "APT::Sandbox::User=$(id -un)")
    apt-get -qq "${options[@]}" update
    for name in "$@"; do
        [[ $name != =* ]] ||
            name=$(apt-cache "${options[@]}" depends --important "${name#=}" | awk '$1 == "Depends:" { print $2 }')
        (cd "$work" && apt-get -qq "${options[@]}" download "$name")
    done
    for file in "$work"/*.deb; do
        dpkg -x "$file" "$folder"
    done
    rm -rf "$work"
}
