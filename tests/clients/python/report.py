"""What the Python clients share: repeat one S3 call, time it, print one JSON line (see ../README.md)."""

import json
import os
import sys
import time


def virtual_hosts():
    """True where the bucket belongs in the host name instead of the path."""
    return os.environ.get("S3_ADDRESSING", "path") == "virtual"


def milliseconds_since(start):
    return round((time.monotonic() - start) * 1000, 1)


def report(client, version, connect, figures=None):
    """Builds the client once with `connect`, makes CLIENT_CALLS calls with what it returns, and exits 0 or 1.

    A call returns how many bytes it read; `figures` holds what else the calls measured.
    """
    line = {"client": client, "version": version, "ok": False, "calls": 0}
    start = time.monotonic()
    try:
        call = connect()
        for _ in range(int(os.environ.get("CLIENT_CALLS", "1"))):
            line["bytes"] = call()
            line["calls"] += 1
            line.setdefault("first_ms", milliseconds_since(start))
        line["ok"] = True
    except Exception as error:  # whatever the library raises is the answer this program reports
        line["error"] = f"{type(error).__name__}: {error}"
    line.update(figures or {})
    line["elapsed_ms"] = milliseconds_since(start)
    print(json.dumps(line), flush=True)
    sys.exit(0 if line["ok"] else 1)
