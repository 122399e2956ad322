"""A service that reads a flag: the real OpenFeature client with the real flagd provider in FILE mode.

Run by test_flagd_real_client.py as its own process. It evaluates the flag for N users again and again and prints one
JSON line a round; it ends when its stdin is closed.
"""

import argparse
import json
import sys
import threading
import time
from collections import Counter

from openfeature import api
from openfeature.contrib.provider.flagd import FlagdProvider
from openfeature.contrib.provider.flagd.config import ResolverType
from openfeature.evaluation_context import EvaluationContext

CODE_DEFAULT = "the caller's code default"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("file")
    parser.add_argument("key")
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument("--poll-ms", type=int, default=500)
    parser.add_argument("--every-ms", type=float, default=5)
    args = parser.parse_args()

    closed = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), closed.set()), daemon=True).start()

    # With plain set_provider the first evaluations would get the code default.
    api.set_provider_and_wait(
        FlagdProvider(resolver_type=ResolverType.FILE, offline_flag_source_path=args.file, deadline_ms=args.poll_ms)
    )
    client = api.get_client()
    users = [
        EvaluationContext(f"user-{i}", {"tier": ("free", "paid", "staff")[i % 3], "email": f"{i}@example.com"})
        for i in range(args.users)
    ]
    while not closed.wait(args.every_ms / 1000):
        started = time.time()
        details = [client.get_string_details(args.key, CODE_DEFAULT, user) for user in users]
        line = {
            "started": started,
            "values": Counter(d.value for d in details),
            "variants": Counter(str(d.variant) for d in details),
            "errors": sorted({f"{d.error_code}: {d.error_message}" for d in details if d.error_code}),
            "metadata": [dict(m) for m in {tuple(sorted(d.flag_metadata.items())) for d in details}],
            "users": [d.variant for d in details],
        }
        print(json.dumps(line), flush=True)
    api.shutdown()


if __name__ == "__main__":
    main()
