"""pyarrow (AWS SDK for C++) as a Pod would use it: default credential chain, one GET.

A chain that finds nothing makes the C++ SDK send the request unsigned, so only a server that refuses
unsigned requests shows whether this client had credentials.
"""

import os

import pyarrow
from pyarrow import fs

from report import report, virtual_hosts


def connect():
    files = fs.S3FileSystem(
        region=os.environ["AWS_REGION"],
        endpoint_override=os.environ["AWS_ENDPOINT_URL_S3"],
        force_virtual_addressing=virtual_hosts(),
    )

    def call():
        with files.open_input_stream(f"{os.environ['S3_BUCKET']}/{os.environ['S3_KEY']}") as stream:
            return len(stream.read())

    return call


if __name__ == "__main__":
    report("pyarrow", pyarrow.__version__, connect)
