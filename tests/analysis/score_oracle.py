"""The stratified score from dense matrices of units x stages, in extended precision (STATISTICS §1 and §3, term by term)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Wide = np.longdouble


@dataclass
class Units:
    """One row per unit, arm and stage."""

    arm: np.ndarray
    stage: np.ndarray
    unit: np.ndarray
    x: np.ndarray
    y: np.ndarray
    stages: int

    def columns(self) -> tuple[np.ndarray, ...]:
        return self.arm, self.stage, self.unit, self.x, self.y

    def pick(self, rows: Any) -> Units:
        return Units(*(c[rows] for c in self.columns()), stages=self.stages)


@dataclass
class Answer:
    score: float
    weight: float
    v_plug: float
    v_design: float
    v_floor: float

    @property
    def v(self) -> float:
        return max(self.v_plug, self.v_design, self.v_floor)


def dense_score(
    u: Units,
    q: np.ndarray,
    *,
    better: str = "lower",
    margin: float = 0.0,
    kind: str = "absolute",
    proportion: bool = False,
) -> Answer:
    """Return S, Σw and the three variances of one look."""
    s = Wide(1 if better == "lower" else -1)
    c = 1 + s * Wide(margin) if kind == "relative" else Wide(1)
    d = Wide(margin) if kind == "absolute" else Wide(0)
    ids, index = np.unique(u.unit, return_inverse=True)
    # (arm, unit, stage): what each unit brought, and whether it was there
    x, y, there = (np.zeros((2, len(ids), u.stages), dtype=Wide) for _ in range(3))
    for table, values in ((x, u.x), (y, u.y), (there, np.ones(len(u.x)))):
        np.add.at(table, (u.arm, index, u.stage), values)
    big_x, big_y, n = x.sum(axis=1), y.sum(axis=1), there.sum(axis=1)
    used = [k for k in range(u.stages) if (n[:, k] >= 2).all() and (big_y[:, k] > 0).all()]
    x, y, big_x, big_y, q = x[..., used], y[..., used], big_x[:, used], big_y[:, used], np.asarray(q, dtype=Wide)[used]
    r = big_x / big_y
    w = big_y[0] * big_y[1] / (big_y[0] + big_y[1])
    score = s * (w * (r[1] - c * r[0])).sum() - d * w.sum()
    # Plug-in: each unit's influence on S, summed over stages before it is squared.
    influence = (w * (x[1] - r[1] * y[1]) / big_y[1] - w * c * (x[0] - r[0] * y[0]) / big_y[0]).sum(axis=1)
    v_plug = (influence**2).sum()
    # Design: outcomes moved back to what they would be without the effect of the null, around one pooled rate.
    back = np.stack([c * x[0], x[1] - s * d * y[1]])
    pooled = back.sum(axis=(0, 1)) / y.sum(axis=(0, 1))
    e = (back - pooled * y).sum(axis=0)
    v_design = (e @ (np.minimum(q[:, None], q[None, :]) - q[:, None] * q[None, :]) * e).sum()
    v_floor = Wide(0)
    if proportion and kind == "absolute":
        p = np.clip(r if s > 0 else 1 - r, 0, 1)
        worst = np.clip(np.maximum(p[1], p[0] + d), 0, 1)
        binomial = (big_y[0] * p[0] * (1 - p[0])).sum()
        clustered = ((x[0] - r[0] * y[0]) ** 2).sum()
        deff = max(Wide(1), clustered / binomial) if binomial > 0 else Wide(1)
        v_floor = (w**2 * deff * (worst * (1 - worst) / big_y[1] + p[0] * (1 - p[0]) / big_y[0])).sum()
    return Answer(*(float(v) for v in (score, w.sum(), v_plug, v_design, v_floor)))


def random_units(
    rng: np.random.Generator, *, stages: int = 3, units: int = 150, binary: bool = False, mean: float = 3.0
) -> tuple[Units, np.ndarray]:
    """Return nested-hash units that come back in later stages, and the treatment's share of each stage."""
    q = np.sort(rng.uniform(0.15, 0.6, size=stages))
    h, own = rng.random(units), rng.normal(0, 1, units)
    rows: list[tuple[int, int, int, float, float]] = []
    for u in range(units):
        for k in range(stages):
            if rng.random() < 0.6:
                y = float(rng.integers(1, 5))
                x = float(rng.binomial(int(y), 0.15)) if binary else float(y * (mean + own[u]) + rng.normal(0, 1))
                rows.append((int(h[u] < q[k]), k, u, x, y))
    arm, stage, unit, x, y = (np.array(c) for c in zip(*rows, strict=True))
    return Units(arm, stage, unit, x, y, stages), q
