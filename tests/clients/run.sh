#!/usr/bin/env bash
# Runs one client as a Pod would: `tests/clients/run.sh CLIENT [ARGUMENT…]`. See README.md for the environment.
#
# Nothing but the container endpoint is left for a credential chain to find.
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
root=$(cd -- "$here/../.." && pwd)
tools=${TOOLS_DIR:-$root/target/tools}

client=${1:?"name a client: aws boto3 s3fs pyarrow obstore js go minio java rust, or storm, put-get"}
shift

unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN AWS_PROFILE AWS_DEFAULT_PROFILE AWS_CONFIG_FILE \
    AWS_SHARED_CREDENTIALS_FILE AWS_WEB_IDENTITY_TOKEN_FILE AWS_ROLE_ARN AWS_CONTAINER_AUTHORIZATION_TOKEN \
    AWS_CONTAINER_CREDENTIALS_RELATIVE_URI MINIO_ACCESS_KEY MINIO_SECRET_KEY MINIO_ROOT_USER MINIO_ROOT_PASSWORD
export AWS_EC2_METADATA_DISABLED=true HOME=/nonexistent PYTHONDONTWRITEBYTECODE=1

case $client in
    aws) exec "$tools/aws/bin/aws" "$@" ;;
    boto3) exec "$tools/boto3/bin/python" "$here/python/boto3_client.py" ;;
    storm) exec "$tools/boto3/bin/python" "$here/python/storm.py" "$@" ;;
    put-get) exec "$tools/boto3/bin/python" "$here/python/put_get.py" "$@" ;;
    s3fs) exec "$tools/s3fs/bin/python" "$here/python/s3fs_client.py" ;;
    pyarrow) exec "$tools/arrow/bin/python" "$here/python/arrow_client.py" ;;
    obstore) exec "$tools/obstore/bin/python" "$here/python/obstore_client.py" ;;
    js) exec "$tools/node/node_modules/.bin/node" "$tools/node/client.mjs" ;;
    go) exec "$tools/go/bin/sdkv2" ;;
    minio) exec "$tools/go/bin/minio" ;;
    # The first tier of the compiler and one collector thread: a short program, many at once on few cores.
    java) exec java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -cp "$tools/java/lib/*" Client ;;
    rust) exec "${RUST_CLIENT:-$root/target/x86_64-unknown-linux-gnu/debug/rust-client}" ;;
    *)
        printf 'no client %s\n' "$client" >&2
        exit 64
        ;;
esac
