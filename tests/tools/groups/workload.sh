# Images for the Pods of a node, as archives: the sandbox's pause, and a workload with a shell, Python, boto3, the AWS
# CLI, and load clients of the SDKs for Go and Java. Made of what the machine and the groups `python`, `go` and `java`
# have: no registry is asked.
# shellcheck shell=bash disable=SC2154

fetch_workload() {
    local python_families=(aws boto3)
    fetch_base
    fetch_buildah
    fetch_python
    fetch_go
    fetch_java
    need jlink default-jdk-headless
    local parts
    parts=$(readlink -f "$tools"/{aws,boto3,go,java})
    provide workload "$("$tools/boto3/bin/python" -VV) $parts" fill_workload \
        "$here/debian.sh" "$here/runtime/pause.c" "$here/runtime/workload.sh"
}

fill_workload() {
    local root=$1/root
    mkdir -p "$root/pause" "$root/workload"
    cc -static -Os -Wall -Werror -o "$root/pause/pause" "$here/runtime/pause.c"
    image "$1" pause local.test/pause:1 --entrypoint '["/pause"]'

    unpack "$1/unpacked" busybox-static
    "$here/runtime/workload.sh" "$tools" "$1/unpacked/usr/bin/busybox" "$root/workload"
    # The tutorial's name is another one of the same image.
    image "$1" workload local.test/workload:1 --cmd /bin/sh --env PATH=/usr/bin:/bin --env PYTHONPATH=/opt/boto3
    rm -rf "$root" "$1/unpacked"
}

# image FOLDER NAME REFERENCE OPTION…: makes an image of FOLDER/root/NAME, and of that the archive FOLDER/NAME.tar.
image() {
    local folder=$1 name=$2 reference=$3 container
    local buildah=(buildah --storage-driver vfs --root "$folder/storage" --runroot "$folder/run")
    shift 3
    container=$("${buildah[@]}" from --quiet scratch)
    "${buildah[@]}" copy --quiet "$container" "$folder/root/$name" / >/dev/null
    "${buildah[@]}" config "$@" "$container"
    "${buildah[@]}" commit --quiet --rm "$container" "$reference" >/dev/null
    "${buildah[@]}" push --quiet "$reference" "docker-archive:$folder/$name.tar:$reference"
    "${buildah[@]}" rmi --all --force >/dev/null
    rm -rf "$folder/storage" "$folder/run"
}

versions_workload() {
    row workload-images "$(readlink "$tools/workload" | sed 's/.*-//')"
}
