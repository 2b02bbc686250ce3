"""Many boto3 processes that start from cold at once, each with its own session and a number of GETs.

Prints one JSON line: errors, retries boto3 hid, and latencies of the first and of all calls in milliseconds.
"""

import argparse
import json
import multiprocessing
import os
import sys
import time

import boto3
from botocore.config import Config

from report import milliseconds_since

# How long a process may take to start, and all of them to finish: past it the run fails instead of hanging.
DEADLINE_SECONDS = 120


def worker(barrier, results, gets):
    """One process: waits for all others, then builds its client and reads the object `gets` times."""
    latencies, retries, errors = [], 0, []
    barrier.wait(DEADLINE_SECONDS)
    start = time.monotonic()
    try:
        s3 = boto3.session.Session().client("s3", config=Config(s3={"addressing_style": "path"}))
    except Exception as error:
        s3 = None
        errors.append(f"{type(error).__name__}: {error}")
    for number in range(gets if s3 else 0):
        # The first call carries the client's construction: that is what a cold Pod waits for.
        before = start if number == 0 else time.monotonic()
        try:
            answer = s3.get_object(Bucket=os.environ["S3_BUCKET"], Key=os.environ["S3_KEY"])
            answer["Body"].read()
            retries += answer["ResponseMetadata"]["RetryAttempts"]
            latencies.append(milliseconds_since(before))
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error}")
    results.put((latencies, retries, errors))


def quantile(values, share):
    """The smallest value that at least `share` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * share // 100) - 1)] if ordered else None


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--processes", type=int, default=8)
    arguments.add_argument("--gets", type=int, default=25, help="GETs of each process")
    options = arguments.parse_args()

    barrier = multiprocessing.Barrier(options.processes)
    results = multiprocessing.Queue()
    start = time.monotonic()
    processes = [
        multiprocessing.Process(target=worker, args=(barrier, results, options.gets), daemon=True)
        for _ in range(options.processes)
    ]
    for process in processes:
        process.start()
    answers = [results.get(timeout=DEADLINE_SECONDS) for _ in processes]
    for process in processes:
        process.join()

    latencies = [value for answer in answers for value in answer[0]]
    errors = [error for answer in answers for error in answer[2]]
    first = [answer[0][0] for answer in answers if answer[0]]
    ok = not errors and len(latencies) == options.processes * options.gets
    line = {
        "client": "boto3 storm",
        "version": boto3.__version__,
        "ok": ok,
        "processes": options.processes,
        "calls": len(latencies),
        "errors": len(errors),
        "retries": sum(answer[1] for answer in answers),
        "first_p50_ms": quantile(first, 50),
        "first_max_ms": max(first, default=None),
        "p50_ms": quantile(latencies, 50),
        "p99_ms": quantile(latencies, 99),
        "elapsed_ms": milliseconds_since(start),
    }
    if errors:
        line["error"] = errors[0]
    print(json.dumps(line), flush=True)
    sys.exit(0 if ok else 1)


if __name__ == "__main__":
    main()
