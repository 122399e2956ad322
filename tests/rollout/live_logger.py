"""The log of a service, written while it runs: what flag_client.py prints comes in, one call a user and round goes out.

Run by test_watch_end_to_end.py as its own process: stdin is the client's stdout. From `--bad-after` seconds on the
candidate refuses most requests. The file is rotated once a second, as loggers do.
"""

import argparse
import json
import random
import sys
from datetime import UTC, datetime
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--bad-after", type=float, required=True)
    args = parser.parse_args()
    rng = random.Random(1)
    first = None
    written = 0
    for text in sys.stdin:
        line = json.loads(text)
        now = line["started"]
        first = now if first is None else first
        bad = now - first > args.bad_after
        at = datetime.fromtimestamp(now, tz=UTC).isoformat()
        rows = []
        for user, variant in enumerate(line["users"]):
            written += 1
            chance = 0.7 if bad and variant == "candidate" else 0.02
            rows.append(
                json.dumps(
                    {
                        "interaction_id": f"i{written}", "ts": at, "model": "m", "unit_id": f"user-{user}",
                        "experiment_id": "live", "variant": variant, "refused": rng.random() < chance,
                    }
                )
            )  # fmt: skip
        with (args.folder / f"calls-{int(now)}.jsonl").open("a", encoding="utf-8") as file:
            file.write("\n".join(rows) + "\n")
        print(json.dumps({"at": now, "bad": bad, "candidates": line["variants"].get("candidate", 0)}), flush=True)


if __name__ == "__main__":
    main()
