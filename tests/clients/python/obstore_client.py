"""obstore (the Rust crate object_store) as a Pod would use it: its own credential chain, one GET.

That chain knows the container endpoint only together with AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE, and asks
169.254.169.254 without it.
"""

import os
from importlib.metadata import version
from urllib.parse import urlsplit

from obstore.store import S3Store

from report import report, virtual_hosts


def options():
    """What object_store does not take from the environment: it wants the bucket in the host of the endpoint."""
    if not virtual_hosts():
        return {}
    url = urlsplit(os.environ["AWS_ENDPOINT_URL_S3"])
    return {
        "aws_virtual_hosted_style_request": "true",
        "aws_endpoint_url_s3": f"{url.scheme}://{os.environ['S3_BUCKET']}.{url.netloc}",
    }


def connect():
    store = S3Store(os.environ["S3_BUCKET"], config=options(), client_options={"allow_http": True})
    return lambda: len(store.get(os.environ["S3_KEY"]).bytes())


if __name__ == "__main__":
    report("obstore", version("obstore"), connect)
