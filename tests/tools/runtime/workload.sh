#!/usr/bin/env bash
# workload.sh TOOLS BUSYBOX ROOT: fills ROOT with what the workload's image has. Python is the one that the virtual
# environments under TOOLS were made with, Java the machine's; both with the libraries they are linked against.
set -euo pipefail

tools=$1 busybox=$2 root=$3
python=$tools/boto3/bin/python
mkdir -p "$root"/{bin,usr/bin,usr/lib,lib64,etc,proc,sys,dev,opt,root}
mkdir -p -m 1777 "$root/tmp"

install -m 755 "$busybox" "$root/bin/busybox"
for name in sh cat ls sleep env true false kill id mkdir rm mv ln touch grep nc wget; do
    ln -s busybox "$root/bin/$name"
done
ln -s /bin/env "$root/usr/bin/env"

base=$("$python" -c 'import os, sys; print(os.path.realpath(sys.executable))')
library=$("$python" -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')
version=$(basename "$library")
install -m 755 "$base" "$root/usr/bin/$version"
ln -s "$version" "$root/usr/bin/python3"
# The tests of the library and what draws windows are most of it.
tar --directory "$(dirname "$library")" --create \
    --exclude site-packages --exclude dist-packages --exclude __pycache__ --exclude test --exclude 'config-*' \
    --exclude ensurepip --exclude idlelib --exclude tkinter --exclude '_tkinter*' --exclude lib2to3 "$version" |
    tar --directory "$root/usr/lib" --extract --no-same-owner
for family in aws boto3; do
    mkdir "$root/opt/$family"
    tar --directory "$tools/$family/lib/$version/site-packages" --create \
        --exclude __pycache__ --exclude 'pip*' --exclude 'setuptools*' --exclude pkg_resources --exclude examples . |
        tar --directory "$root/opt/$family" --extract --no-same-owner
done
cat >"$root/usr/bin/aws" <<'AWS'
#!/bin/sh
PYTHONPATH=/opt/aws exec python3 -m awscli "$@"
AWS

install -D -m 755 "$tools/go/bin/load" "$root/opt/go/load"
mkdir "$root/opt/java"
# What the SDK asks for, and the curves of TLS.
modules=java.base,java.logging,java.management,java.naming,java.security.jgss,java.sql,java.xml,jdk.crypto.ec,jdk.net,jdk.unsupported
jlink --strip-debug --no-header-files --no-man-pages --add-modules "$modules" --output "$root/opt/java/runtime"
cp -r "$tools/java/lib" "$root/opt/java/lib"

# Libraries go where the loader looks by default, whatever place they come from.
mkdir -p "$root/lib/x86_64-linux-gnu"
find "$root/usr/bin/$version" "$root/usr/lib/$version" "$root/opt/java/runtime" \
    \( -name '*.so' -o -name "$version" -o -name java \) -type f -print0 |
    xargs -0 ldd 2>/dev/null | grep -v "$root" | awk '$2 == "=>" && $3 ~ /^\// { print $3 } $1 ~ /^\/.*ld-/ { print $1 }' | sort -u |
    while read -r file; do
        case $file in
            */ld-*) install -m 755 "$(readlink -f "$file")" "$root/lib64/$(basename "$file")" ;;
            *) install -m 755 "$(readlink -f "$file")" "$root/lib/x86_64-linux-gnu/$(basename "$file")" ;;
        esac
    done

printf 'root:x:0:0:root:/root:/bin/sh\nworkload:x:1000:1000::/tmp:/bin/sh\n' >"$root/etc/passwd"
printf 'root:x:0:\nworkload:x:1000:\n' >"$root/etc/group"
chmod -R u=rwX,go=rX "$root"/{bin,usr,lib,lib64,etc,opt}
chmod 755 "$root" "$root/usr/bin/aws"
# Compiled here once, so that no Pod does it at each start.
chroot "$root" /usr/bin/python3 -m compileall -q /usr/lib /opt >/dev/null
[ "$(chroot "$root" /usr/bin/env PYTHONPATH=/opt/boto3 /usr/bin/python3 -c 'import boto3, ssl; print("loads")')" = loads ]
chroot "$root" /bin/sh -c 'PATH=/usr/bin:/bin aws --version' >&2
