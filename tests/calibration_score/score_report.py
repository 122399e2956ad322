"""Run every study of this folder in full and print what was measured; resumable.

python tests/calibration_score/score_report.py --out runs.jsonl [--only TEXT]
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import studies_harm
import studies_rare
import studies_safe
from score_paths import Rate, Study


def studies() -> list[Study]:
    """Return all studies, in the order of the page docs/calibration_score.md."""
    found: list[Study] = []
    for module in (studies_harm, studies_safe, studies_rare):
        for value in vars(module).values():
            found += (
                [value]
                if isinstance(value, Study)
                else [s for s in value.values() if isinstance(s, Study)]
                if isinstance(value, dict)
                else []
            )
    return found


def lines(study: Study, runs: int) -> list[dict]:
    """Return one row a number: a share with its standard error, or mean, median and how often it never came."""
    counts = study.measure(runs)
    rows = []
    for name in sorted(counts.seen):
        rate: Rate = counts[name]
        rows.append({"what": name, "hits": rate.hits, "share": rate.value, "se": rate.std_error})
    for name, values in counts.values.items():
        finite = [v for v in values if np.isfinite(v)]
        se = float(np.std(finite) / len(finite) ** 0.5) if finite else None
        never = 1 - len(finite) / len(values)
        rows.append(
            {
                "what": name,
                "median": float(np.median(values)),
                "mean": float(np.mean(finite)) if finite else None,
                "se": se,
                "never": never,
            }
        )
    return [
        {"study": study.name, "seed": study.seed, "runs": runs, **row}
        for row in rows or [{"what": "nothing happened", "hits": 0, "share": 0.0}]
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", default="")
    parser.add_argument("--runs", type=int)
    args = parser.parse_args()
    done = {json.loads(line)["study"] for line in args.out.read_text().splitlines()} if args.out.exists() else set()
    for study in studies():
        if study.name in done or args.only not in study.name:
            continue
        started = time.perf_counter()
        rows = lines(study, args.runs or study.full)
        with args.out.open("a") as out:
            out.writelines(json.dumps(row) + "\n" for row in rows)
        print(f"{study.name}: {time.perf_counter() - started:.0f} s", flush=True)
