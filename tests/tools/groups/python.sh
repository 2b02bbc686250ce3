# One virtual environment per client: their versions of botocore exclude each other.
# shellcheck shell=bash disable=SC2154

# The oldest Python that the pinned versions accept.
python_minimum=3.11
# Which clients: the demo needs two of them alone.
read -ra python_families <<<"${PYTHON_CLIENTS:-aws boto3 s3fs arrow obstore}"

fetch_python() {
    local family stamp
    need python3 python3
    python3 -c 'import ensurepip, venv' 2>/dev/null || packages python3-venv
    # The scripts of a virtual environment hold its own path and that of the Python it was made with.
    stamp="$tools $(python3 -c 'import sys; print(sys.version, sys.base_prefix)')"
    python3 -c "import sys; sys.exit(sys.version_info < (${python_minimum/./, }))" ||
        die "python3 is $(python3 --version), the clients need $python_minimum or newer"
    for family in "${python_families[@]}"; do
        python_requirements=$clients/python/requirements/$family.txt
        provide "$family" "$stamp" fill_python "$python_requirements"
    done
}

fill_python() {
    python3 -m venv "$1"
    "$1/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes \
        --only-binary :all: --requirement "$python_requirements"
    # Programs in a virtual environment name its folder in their first line.
    grep -rlIF --null "$1" "$1/bin" "$1/pyvenv.cfg" | xargs -0 sed -i "s|$1|$2|g"
}

versions_python() {
    row python "$("$tools/${python_families[0]}/bin/python" -c 'import platform; print(platform.python_version())')"
    local family
    for family in "${python_families[@]}"; do
        case $family in
            aws) row aws-cli "$("$tools/aws/bin/aws" --version | sed 's|aws-cli/\([^ ]*\).*|\1|')" ;;
            boto3) python_row boto3 boto3 boto3 botocore ;;
            s3fs) python_row s3fs s3fs s3fs aiobotocore ;;
            arrow) python_row pyarrow arrow pyarrow ;;
            obstore) python_row obstore obstore obstore ;;
        esac
    done
}

# python_row NAME FAMILY PACKAGE…: the versions of the packages as installed.
python_row() {
    row "$1" "$("$tools/$2/bin/python" -c \
        'import importlib.metadata as m, sys; print(*(f"{m.version(p)}" if i == 0 else f"({p} {m.version(p)})" for i, p in enumerate(sys.argv[1:])))' \
        "${@:3}")"
}
