"""What the load clients share: they ask at a pace and count, and print all counts so far several times a second."""

import json
import os
import sys
import time

# Seconds between the starts of two requests, and between two lines.
INTERVAL = float(os.environ["LOAD_INTERVAL_MS"]) / 1000
LINE_INTERVAL = 0.2


def run(ask):
    """Calls `ask` at the pace until the process is ended. It returns the access key it used, or raises."""
    counts = {"asked": 0, "failed": 0, "slowest_ms": 0.0, "errors": {}, "keys": []}
    due = printed = time.monotonic()
    while True:
        started = time.monotonic()
        try:
            key = ask()
            if key not in counts["keys"]:
                counts["keys"].append(key)
        except Exception as error:  # whatever a client meets is what it is here to count
            counts["failed"] += 1
            name = f"{type(error).__name__}: {error}"[:300]
            counts["errors"][name] = counts["errors"].get(name, 0) + 1
        counts["asked"] += 1
        counts["slowest_ms"] = max(counts["slowest_ms"], round((time.monotonic() - started) * 1000, 1))
        now = time.monotonic()
        if now - printed >= LINE_INTERVAL:
            printed = now
            # The time at which the last answer was there: later events are not in these counts.
            print(json.dumps({"at": time.time(), **counts}), flush=True)
            counts["slowest_ms"] = 0.0
            if counts["asked"] > 10_000_000:
                sys.exit("asked enough")
        due = max(due + INTERVAL, now)
        time.sleep(max(0.0, due - time.monotonic()))
