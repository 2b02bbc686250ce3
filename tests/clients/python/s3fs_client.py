"""s3fs (fsspec) as a Pod would use it: default credential chain of aiobotocore, one GET."""

import os

import aiobotocore
import s3fs

from report import report, virtual_hosts


def connect():
    style = "virtual" if virtual_hosts() else "path"
    files = s3fs.S3FileSystem(config_kwargs={"s3": {"addressing_style": style}})
    return lambda: len(files.cat_file(f"{os.environ['S3_BUCKET']}/{os.environ['S3_KEY']}"))


if __name__ == "__main__":
    report("s3fs", f"{s3fs.__version__} (aiobotocore {aiobotocore.__version__})", connect)
