"""boto3 as a Pod would use it: default credential chain, one GET."""

import os

import boto3
import botocore
from botocore.config import Config

from report import report, virtual_hosts


def connect():
    style = "virtual" if virtual_hosts() else "path"
    s3 = boto3.client("s3", config=Config(s3={"addressing_style": style}))

    def call():
        answer = s3.get_object(Bucket=os.environ["S3_BUCKET"], Key=os.environ["S3_KEY"])
        return len(answer["Body"].read())

    return call


if __name__ == "__main__":
    report("boto3", f"{boto3.__version__} (botocore {botocore.__version__})", connect)
