"""Cost per successful task and its relatives by brute force: dicts and numpy over the records, nothing of ours."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np

Record = dict[str, Any]


def call_cost(call: Record, prices: dict[str, Record]) -> float | None:
    if call.get("cost_usd") is not None:
        return float(call["cost_usd"])
    price = prices.get(call["model"])
    counts = [call.get(n) for n in ("input_tokens", "cached_input_tokens", "output_tokens")]
    if price is not None and price["cached_input"] == price["input"]:
        counts[1] = 0  # how many were cached does not matter
    if price is None or None in counts or counts[1] > counts[0]:
        return None
    total, cached, output = counts
    return ((total - cached) * price["input"] + cached * price["cached_input"] + output * price["output"]) / 1e6


def tasks(records: list[Record], prices: dict[str, Record]) -> dict[tuple[str, str], Record]:
    """Return (arm, request) -> unit, cost over all attempts (None when one is unknown), success of the last attempt."""
    groups: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for r in records:
        if r["type"] == "interaction":
            groups[r["variant"], r["request_id"]].append(r)
    out: dict[tuple[str, str], Record] = {}
    for key, calls in groups.items():
        last = max(calls, key=lambda c: (c["ts"], c["attempt"], c["interaction_id"]))
        costs = [call_cost(c, prices) for c in calls]
        told = last.get("format_ok")
        success = False if last["is_error"] else told
        out[key] = {
            "unit": last["unit_id"], "cost": None if None in costs else float(np.sum(costs)),
            "success": None if success is None else float(success),
        }  # fmt: skip
    return out


def matrix(
    records: list[Record], prices: dict[str, Record], arms: tuple[str, str], *, paired: bool
) -> tuple[np.ndarray, np.ndarray, int]:
    """Return (units, 2, 3) sums of tasks, cost and successes by unit and arm, and which (unit, arm) have any row at all."""
    found = tasks(records, prices)
    if paired:
        shared = {r for a, r in found if a == arms[0]} & {r for a, r in found if a == arms[1]}
        kept = {k: v for k, v in found.items() if k[1] in shared}
        known = {
            r for r in shared if all(kept[a, r]["cost"] is not None and kept[a, r]["success"] is not None for a in arms)
        }
    else:
        kept = found
    units = sorted({v["unit"] for v in kept.values()})
    at = {u: i for i, u in enumerate(units)}
    sums, seen = np.zeros((len(units), 2, 3)), np.zeros((len(units), 2), dtype=bool)
    for (arm, request), task in kept.items():
        i, a = at[task["unit"]], arms.index(arm)
        seen[i, a] = True
        if task["cost"] is None or task["success"] is None or (paired and request not in known):
            continue
        sums[i, a] += (1.0, task["cost"], task["success"])
    return sums, seen, len(found)


def economics(sums: np.ndarray) -> dict[str, float]:
    """Return costs a success and the saving, each with its clustered standard error by an explicit influence a unit."""
    (n0, c0, s0), (n1, c1, s1) = sums.sum(axis=0)
    out = {"per_success_0": c0 / s0, "per_success_1": c1 / s1, "per_task_0": c0 / n0, "rate_1": s1 / n1}
    out["saving"] = c0 / n0 - (c1 / s1) * (s0 / n0)
    psi0 = (sums[:, 0, 1] - c0 / n0 * sums[:, 0, 0]) / n0
    psi_p = (sums[:, 0, 2] - s0 / n0 * sums[:, 0, 0]) / n0
    psi_r = (sums[:, 1, 1] - c1 / s1 * sums[:, 1, 2]) / s1
    out["saving_error"] = float(np.sqrt(((psi0 - psi_r * s0 / n0 - c1 / s1 * psi_p) ** 2).sum()))
    out["per_success_error_1"] = float(np.sqrt((psi_r**2).sum()))
    return out
