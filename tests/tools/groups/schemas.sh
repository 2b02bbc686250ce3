# kubernetes-validate: the JSON schemas of Kubernetes' own objects, of 1.25 and later, and what checks YAML against them.
# shellcheck shell=bash disable=SC2154

fetch_schemas() {
    need python3 python3
    python3 -c 'import ensurepip, venv' 2>/dev/null || packages python3-venv
    # The scripts of a virtual environment hold its own path and that of the Python it was made with.
    provide schemas "$tools $(python3 -c 'import sys; print(sys.version, sys.base_prefix)')" fill_schemas \
        "$here/schemas/requirements.txt"
}

fill_schemas() {
    python_requirements=$here/schemas/requirements.txt fill_python "$@"
}

versions_schemas() {
    row kubernetes-validate "$("$tools/schemas/bin/python" -c \
        'import importlib.metadata as m; print(m.version("kubernetes-validate"))')"
}
