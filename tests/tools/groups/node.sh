# The AWS SDK for JavaScript and, as another npm package, the Node it runs on: the distributions' Node is too old
# for it. Their Node and npm only install.
# shellcheck shell=bash disable=SC2154

fetch_node() {
    need npm nodejs npm
    provide node "" fill_node "$clients/node/package.json" "$clients/node/package-lock.json" "$clients/node/client.mjs"
}

fill_node() {
    cp "$clients"/node/{package.json,package-lock.json,client.mjs} "$1"
    npm --prefix "$1" ci --omit=dev --ignore-scripts --no-audit --no-fund --loglevel=error
}

versions_node() {
    row node "$("$tools/node/node_modules/.bin/node" --version | tr -d v)"
    row aws-sdk-js-v3 "$(sed -n 's/^  "version": "\(.*\)",$/\1/p' "$tools/node/node_modules/@aws-sdk/client-s3/package.json")"
}
