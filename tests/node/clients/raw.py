"""The least forgiving client: no SDK, no retry, nothing remembered. Each time a new connection for the credentials, and
each so many times an S3 call that they sign (AWS Signature Version 4)."""

import hashlib
import hmac
import http.client
import json
import os
import time
import urllib.parse

import counts

ENDPOINT = urllib.parse.urlsplit(os.environ["AWS_CONTAINER_CREDENTIALS_FULL_URI"])
TOKEN_FILE = os.environ["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"]
REGION = os.environ["AWS_REGION"]
HOST = "data.cwlota.com"
EMPTY = hashlib.sha256(b"").hexdigest()
# One S3 call in so many requests.
S3_EVERY = int(os.environ["LOAD_S3_EVERY"])


def get(host, port, path, headers):
    """The body of the answer to one request on a connection of its own."""
    connection = http.client.HTTPConnection(host, port, timeout=15)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    if answer.status != 200:
        raise RuntimeError(f"{answer.status} {body[:200]!r}")
    return body


def token():
    """The kubelet renews a token by a link to a new directory and removes the old one: whoever is just walking the old
    path finds nothing there, once."""
    for is_last in (False, True):
        try:
            with open(TOKEN_FILE, encoding="ascii") as file:
                return file.read()
        except FileNotFoundError:
            if is_last:
                raise


def credentials():
    return json.loads(get(ENDPOINT.hostname, ENDPOINT.port, ENDPOINT.path, {"Authorization": token()}))


def digest(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def read(keys):
    now = time.gmtime()
    stamp, day = time.strftime("%Y%m%dT%H%M%SZ", now), time.strftime("%Y%m%d", now)
    headers = {"host": HOST, "x-amz-content-sha256": EMPTY, "x-amz-date": stamp}
    if keys["Token"]:
        headers["x-amz-security-token"] = keys["Token"]
    names = ";".join(sorted(headers))
    lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    request = f"GET\n/object\n\n{lines}\n{names}\n{EMPTY}"
    scope = f"{day}/{REGION}/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = f"AWS4{keys['SecretAccessKey']}".encode()
    for part in [day, REGION, "s3", "aws4_request"]:
        key = digest(key, part)
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={keys['AccessKeyId']}/{scope}, SignedHeaders={names}, "
        f"Signature={digest(key, text).hex()}"
    )
    get(HOST, 80, "/object", headers)


asked = 0


def ask():
    global asked
    stage = "credentials"
    try:
        keys = credentials()
        stage = "S3"
        if asked % S3_EVERY == 0:
            read(keys)
    except Exception as error:
        raise RuntimeError(f"{stage}: {type(error).__name__}: {error}") from error
    asked += 1
    return keys["AccessKeyId"]


counts.run(ask)
