"""Logs of techniques with a known truth, and specs that ask about them."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

START = datetime(2026, 11, 1, tzinfo=UTC)
PRICES = [
    {"name": "large", "since": "2026-01-01", "input": 10.0, "cached_input": 1.0, "output": 30.0},
    {"name": "small", "since": "2026-01-01", "input": 1.0, "cached_input": 1.0, "output": 3.0},
]
SPEC: dict[str, Any] = {
    "id": "tuned", "baseline": "large_prompt", "unit": "user",
    "arms": {"large_prompt": {"technique": "prompt"}, "small_tuned": {"technique": "fine_tune"}},
    "metrics": [
        {"name": "solved", "kind": "proportion", "event": "format_ok AND NOT is_error", "better": "higher"},
        {"use": "latency_p95"},
        {"use": "refusal_rate"},
    ],
    "quality": {"metric": "solved", "margin": {"points": 0.05}},
    "latency": {"metric": "latency_p95", "budget": 2000},
    "costs": {"small_tuned": {"training": 1200.0, "evaluation": 300.0, "labels": 2000, "usd_per_label": 0.25, "hosting_a_month": 400.0,
                              "months_until_retraining": 6.0}},
    "volume": {"tasks_a_month": 500_000},
    "prices": {"model": PRICES},
}  # fmt: skip


@dataclass(frozen=True)
class Truth:
    """What one technique does: chance of success, tokens, share of cached input, retries, milliseconds."""

    model: str
    success: float
    tokens: int = 1000
    cached: float = 0.0
    output: int = 200
    retry: float = 0.1
    latency: float = 800.0


LARGE = Truth("large", 0.90)
SMALL = Truth("small", 0.89)


def spec(**changes: Any) -> dict[str, Any]:
    """Return the spec with whole keys replaced; None leaves one out."""
    data = {**copy.deepcopy(SPEC), **changes}
    return {k: v for k, v in data.items() if v is not None}


def logs(
    arms: dict[str, Truth],
    *,
    users: int = 400,
    rows: int = 4,
    paired: bool = False,
    shadow: bool = False,
    seed: int = 1,
    turns: int = 1,
) -> list[dict[str, Any]]:
    """Return interactions: users split evenly over the arms, or (paired) every request answered by all of them."""
    rng = np.random.default_rng(seed)
    names = list(arms)
    out: list[dict[str, Any]] = []
    for user in range(users):
        skill = rng.normal(0, 0.05)
        for k in range(rows):
            seen = names if paired else [names[user % len(names)]]
            hard = rng.random()
            for name in seen:
                out += _task(rng, name, arms[name], user, k, skill, hard, paired, shadow and name != names[0], turns)
    return out


def _task(
    rng: np.random.Generator,
    name: str,
    truth: Truth,
    user: int,
    k: int,
    skill: float,
    hard: float,
    paired: bool,
    silent: bool,
    turns: int,
) -> list[dict[str, Any]]:
    request = f"u{user}-{k}" if paired else f"{name}-u{user}-{k}"
    attempts = 2 if rng.random() < truth.retry else 1
    at = START + timedelta(minutes=int(user * 37 + k * 11))
    calls: list[dict[str, Any]] = []
    # Half of the luck is the task's, half the technique's: pairs are alike.
    luck = hard if rng.random() < 0.5 else rng.random()
    for attempt in range(attempts):
        last = attempt == attempts - 1
        good = last and luck < truth.success + skill
        tokens = int(rng.poisson(truth.tokens))
        calls.append({
            "type": "interaction", "interaction_id": f"{name}-{request}-{attempt}", "ts": (at + timedelta(seconds=attempt)).isoformat(),
            "model": truth.model, "experiment_id": "tuned", "variant": name, "unit_id": f"user{user}", "request_id": request,
            "attempt": attempt, "exposed": not silent, "input_tokens": tokens, "cached_input_tokens": int(tokens * truth.cached),
            "output_tokens": int(rng.poisson(truth.output)), "latency_ms": float(rng.gamma(8, truth.latency / 8)),
            "is_error": not last, "format_ok": bool(good) if last else None, "refused": bool(rng.random() < 0.01),
            "turn": k % turns + 1, "surface": "support" if k % 2 else "search",
        })  # fmt: skip
    return calls
