"""Writes one object of random bytes to S3_BUCKET, reads it back and compares SHA-256, all with boto3.

Both requests carry S3 checksums, so the server and boto3 check the bytes as well. Prints one JSON line.
"""

import argparse
import hashlib
import os
import time

import boto3
from botocore.config import Config

from report import milliseconds_since, report


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--megabytes", type=int, default=50, help="size of the object, in units of 1,000,000 bytes")
    options = arguments.parse_args()
    figures = {"megabytes": options.megabytes}

    def connect():
        s3 = boto3.client("s3", config=Config(s3={"addressing_style": "path"}))
        body = os.urandom(options.megabytes * 1_000_000)
        where = {"Bucket": os.environ["S3_BUCKET"], "Key": os.environ["S3_KEY"]}

        def call():
            start = time.monotonic()
            s3.put_object(**where, Body=body, ChecksumAlgorithm="SHA256")
            figures["put_ms"] = milliseconds_since(start)
            start = time.monotonic()
            copy = s3.get_object(**where, ChecksumMode="ENABLED")["Body"].read()
            figures["get_ms"] = milliseconds_since(start)
            for name in ("put", "get"):
                figures[f"{name}_mb_per_s"] = round(options.megabytes * 1000 / max(figures[f"{name}_ms"], 0.1), 1)
            figures["sha256"] = hashlib.sha256(body).hexdigest()
            figures["sha256_equal"] = hashlib.sha256(copy).hexdigest() == figures["sha256"]
            if not figures["sha256_equal"]:
                raise ValueError(f"read {len(copy)} bytes that differ from the {len(body)} written")
            return len(copy)

        return call

    report("boto3 put_get", boto3.__version__, connect, figures)


if __name__ == "__main__":
    main()
