# cargo-deny, which checks what the shipped programs are made of against deny.toml.
# shellcheck shell=bash disable=SC2154

deny_version=0.20.2

fetch_deny() {
    provide deny "" fill_deny
}

fill_deny() {
    # Not optimised: it is built longer than it ever runs.
    (cd "$root" && cargo install --quiet --locked --debug --root "$1" cargo-deny --version "$deny_version")
}

versions_deny() {
    row cargo-deny "$("$tools/deny/bin/cargo-deny" --version | cut -d ' ' -f 2)"
}
