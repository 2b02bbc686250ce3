"""obstore (the Rust crate object_store) as a Pod would use it: its own credential chain, one GET.

That chain knows the container endpoint only together with AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE, and asks
169.254.169.254 without it.
"""

import os
from importlib.metadata import version
from urllib.parse import urlsplit

from obstore.store import S3Store

from report import report, virtual_hosts


def endpoint():
    """The endpoint as object_store wants it: with virtual addressing the bucket is already in the host."""
    url = os.environ["AWS_ENDPOINT_URL_S3"]
    if not virtual_hosts():
        return url
    parts = urlsplit(url)
    return f"{parts.scheme}://{os.environ['S3_BUCKET']}.{parts.netloc}"


def connect():
    store = S3Store(
        os.environ["S3_BUCKET"],
        endpoint=endpoint(),
        region=os.environ["AWS_REGION"],
        virtual_hosted_style_request=virtual_hosts(),
        client_options={"allow_http": True},
    )
    return lambda: len(store.get(os.environ["S3_KEY"]).bytes())


if __name__ == "__main__":
    report("obstore", version("obstore"), connect)
