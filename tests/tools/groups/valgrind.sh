# valgrind, whose callgrind counts the instructions of the bench's hot path.
# shellcheck shell=bash disable=SC2154

fetch_valgrind() {
    need valgrind valgrind
}

versions_valgrind() {
    row valgrind "$(valgrind --version | sed 's/^valgrind-//')"
}
