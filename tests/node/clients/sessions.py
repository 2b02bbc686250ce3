"""boto3 as a process that has just started sees it: each time a new session, credentials fetched anew, one S3 call. Its
own retries are those it has by default."""

import boto3
from botocore.config import Config

import counts


def ask():
    session = boto3.session.Session()
    s3 = session.client("s3", endpoint_url="http://cwlota.com", config=Config(s3={"addressing_style": "virtual"}))
    s3.get_object(Bucket="data", Key="object")["Body"].read()
    key = session.get_credentials().access_key
    s3.close()
    return key


counts.run(ask)
