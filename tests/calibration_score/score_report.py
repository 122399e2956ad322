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


def table(rows: list[dict]) -> str:
    """Return the rows as a Markdown table: shares in per cent, else median (mean) and how often it never came."""
    out = ["| study | seed | runs | what | result |", "|---|---|---|---|---|"]
    for r in rows:
        if "share" in r:
            result = f"{100 * r['share']:.2f} % (s.e. {100 * r.get('se', 0.0):.2f})"
        else:
            mean = "" if r["mean"] is None else f", mean {r['mean']:.4g} (s.e. {r['se']:.2g})"
            result = f"median {r['median']:.4g}{mean}" + (f", never {100 * r['never']:.1f} %" if r["never"] else "")
        out.append(f"| {r['study']} | {r['seed']} | {r['runs']} | {r['what']} | {result} |")
    return "\n".join(out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", default="")
    parser.add_argument("--runs", type=int)
    parser.add_argument("--table", action="store_true", help="print what --out holds as Markdown, run nothing")
    args = parser.parse_args()
    if args.table:
        print(table([json.loads(line) for line in args.out.read_text().splitlines()]))
        raise SystemExit
    done = {json.loads(line)["study"] for line in args.out.read_text().splitlines()} if args.out.exists() else set()
    for study in studies():
        if study.name in done or args.only not in study.name:
            continue
        started = time.perf_counter()
        rows = lines(study, args.runs or study.full)
        with args.out.open("a") as out:
            out.writelines(json.dumps(row) + "\n" for row in rows)
        print(f"{study.name}: {time.perf_counter() - started:.0f} s", flush=True)
