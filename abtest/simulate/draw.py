"""Draws the logs: who comes when, who is in which arm, and what happens to each request. Everything is vectorised."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from abtest.errors import UsageError
from abtest.simulate import model
from abtest.simulate.model import Clock
from abtest.simulate.scenarios import FORMAT_OK, HELPFULNESS, Scenario, find_scenario

Array = NDArray[Any]
Columns = dict[str, Array]

ERROR_TYPES = (None, "timeout", "rate_limit", "overloaded")
SCORE_NAMES = ("helpfulness", "thumbs")
BASELINE, CANDIDATE, CANDIDATE_OLD_PROMPT, OUTSIDE = range(4)
"""Kinds of calls: what the constant columns (model, prompt, surface) say."""

_OUTSIDE_SHARE = 0.02
_RETRIES = (0.965, 0.03, 0.005)  # chances of 0, 1 and 2 failed attempts before the one that counts
_THUMBS = 0.04
_MICRO = 1_000_000


@dataclass(frozen=True)
class Simulation:
    """Logs with a known truth, as columns.

    Attributes:
        scenario: The story.
        users: Users who send at least one request.
        days: Length of the period.
        seed: Seed of every draw.
        run: Eight hex digits, different for every set of arguments; all ids start with them.
        clock: Period, stage starts and shares.
        calls: One row per model call, sorted by time: ts (int64, epoch microseconds), user (-1: unknown), session (-1:
            none), request, turn, attempt, final (the attempt that counts), arm (0 control, 1 candidate, -1 outside the
            experiment), stage, kind, refused and format_ok (1, 0, -1 unknown), is_error, error (index into
            `ERROR_TYPES`), latency_ms, ttft_ms (NaN: unknown), input_tokens, output_tokens and reasoning_tokens (-1:
            unknown), cost_usd.
        scores: One row per score, sorted by time: ts, call (row in `calls`), name (index into `SCORE_NAMES`), value
            (NaN: the judge failed).
        hashes: Float per user in [0, 1); a user is in the candidate in stage k iff it is below that stage's share.
        truth: The content of truth.json.
    """

    scenario: Scenario
    users: int
    days: float
    seed: int
    run: str
    clock: Clock
    calls: Mapping[str, Array]
    scores: Mapping[str, Array]
    hashes: NDArray[np.float64]
    truth: Mapping[str, Any]


def simulate(
    scenario: str | Scenario = "healthy", *, users: int = 20_000, days: float = 10, seed: int = 0
) -> Simulation:
    """Draw the logs of one experiment whose truth is known.

    Users are sticky (nested hash), return over days, and differ in how often they come and in how often they are
    refused, how long they wait, what they cost and how well they are served. The period ends at 2026-11-20T00:00Z.

    Args:
        scenario: A name from `SCENARIOS`, or a scenario of your own.
        users: Users who send at least one request; each sends about five.
        days: Length of the period; the stages of the ramp scale with it.
        seed: Seed; the same arguments give the same logs, and scenarios share their users and random numbers.

    Returns:
        The columns and the truth.

    Raises:
        UsageError: Unknown scenario, or a number that makes no logs.
    """
    story = find_scenario(scenario) if isinstance(scenario, str) else scenario
    _check_size(users, days, seed)
    days = float(days)
    clock = Clock.of(days, story.stages)
    streams = [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(6)]
    requests = _visits(streams[0], users, clock)
    hashes = streams[1].random(users)
    requests = _assign(streams[1], requests, hashes, story, clock)
    requests = _add_outside(streams[2], requests, users, clock)
    _outcomes(streams[3], requests, users, story, clock)
    calls = _attempts(streams[4], requests, clock)
    scores = _scores(streams[5], calls, users, story, clock)
    run = hashlib.sha256(repr((story, users, days, seed)).encode()).hexdigest()[:8]
    truth = _truth(story, users, days, seed, clock)
    return Simulation(story, users, days, seed, run, clock, calls, scores, hashes, truth)


def _check_size(users: int, days: float, seed: int) -> None:
    if not 1 <= users <= 50_000_000:
        raise UsageError(f"{users} users make no logs", key="users", hint="use 1 to 50000000")
    if not (math.isfinite(days) and 0.01 <= days <= 3650):
        raise UsageError(f"{days} days make no logs", key="days", hint="use 0.01 to 3650")
    if seed < 0:
        raise UsageError(f"seed {seed} is negative", key="seed", hint="use 0 or more")


def _within(counts: Array) -> Array:
    """Return 0, 1, .. counts[0]-1, 0, 1, .. for groups of the given sizes laid end to end."""
    ends = np.cumsum(counts)
    return np.arange(int(ends[-1]) if len(ends) else 0) - np.repeat(ends - counts, counts)


def _pick(columns: Columns, rows: Array) -> Columns:
    return {name: column[rows] for name, column in columns.items()}


def _visits(rng: Generator, users: int, clock: Clock) -> Columns:
    """Draw sessions and turns: one first session a user at an even time, later ones by activity.

    A joiner's later sessions fall between its first session and the end; so traffic grows a little over the period.
    """
    first = rng.random(users)
    since = np.where(rng.random(users) < model.JOINERS, first, 0.0)
    activity = rng.gamma(model.ACTIVITY_SHAPE, 1 / model.ACTIVITY_SHAPE, users)
    later = rng.poisson(model.LATER_SESSIONS * activity * (1 - since))
    later_user = np.repeat(np.arange(users), later)
    later_at = since[later_user] + (1 - since[later_user]) * rng.random(len(later_user))
    owner = np.concatenate([np.arange(users), later_user])
    at = clock.start + clock.seconds * np.concatenate([first, later_at])
    turns = rng.geometric(model.SINGLE_TURN, len(owner))
    turn = _within(turns)
    session = np.repeat(np.arange(len(owner)), turns)
    # At least 20 s between turns, so that the retries of one turn end before the next begins.
    gaps = np.where(turn > 0, 20 + rng.exponential(70, len(turn)), 0.0)
    elapsed = np.cumsum(gaps)
    ts = at[session] + elapsed - elapsed[np.cumsum(turns) - turns][session]
    columns = {"user": owner[session], "session": session, "turn": turn + 1, "ts": _milliseconds(ts)}
    return _pick(columns, np.flatnonzero(ts < clock.end))


def _milliseconds(seconds: Array) -> Array:
    """Return epoch seconds as epoch microseconds, cut to whole milliseconds."""
    return np.floor(seconds * 1000).astype(np.int64) * 1000


def _assign(rng: Generator, requests: Columns, hashes: Array, story: Scenario, clock: Clock) -> Columns:
    """Add stage, arm and kind, with whatever the scenario breaks in the assignment or loses on the way."""
    edges = np.array(clock.edges, dtype=np.int64) * _MICRO
    user = requests["user"]
    stage = np.searchsorted(edges, requests["ts"], side="right") - 1
    arm = (hashes[user] < np.array(clock.shares)[stage]).astype(np.int8)
    keep = np.ones(len(user), dtype=bool)
    lost = rng.random(len(hashes)) < story.lost_new_users
    if story.lost_new_users:
        keep &= ~(lost & _starts_in_candidate(user, requests["ts"], arm, len(hashes)))[user]
    if story.contaminated:
        arm = _contaminate(rng, user, stage, arm, story.contaminated)
    if story.no_control:
        keep &= arm == 1
    old = rng.random(len(user)) < story.old_prompt
    kind = np.where(arm == 0, BASELINE, np.where(old, CANDIDATE_OLD_PROMPT, CANDIDATE)).astype(np.int8)
    return _pick({**requests, "stage": stage.astype(np.int8), "arm": arm, "kind": kind}, np.flatnonzero(keep))


def _starts_in_candidate(user: Array, ts: Array, arm: Array, users: int) -> Array:
    """Return one bool a user: the very first request is in the candidate."""
    order = np.lexsort((ts, user))
    owners, at = np.unique(user[order], return_index=True)
    starts = np.zeros(users, dtype=bool)
    starts[owners] = arm[order][at] == 1
    return starts


def _contaminate(rng: Generator, user: Array, stage: Array, arm: Array, rate: float) -> Array:
    """Move one request of some users to the other arm, so that `rate` of the users of a stage are seen in both."""
    # Only who sends two or more requests in a stage can be seen in both arms there.
    _, at, cell, size = np.unique(
        user.astype(np.int64) * 8 + stage, return_index=True, return_inverse=True, return_counts=True
    )
    in_stage = stage[at]
    several = size > 1
    wanted = rate * np.bincount(in_stage, minlength=8)
    chance = np.minimum(1.0, wanted / np.maximum(1, np.bincount(in_stage[several], minlength=8)))
    mixed = several & (rng.random(len(at)) < chance[in_stage])
    last = np.zeros(len(at), dtype=np.int64)
    last[cell] = np.arange(len(user))  # the last assignment wins: one row of each cell
    moved = arm.copy()
    moved[last[mixed]] = 1 - moved[last[mixed]]
    return moved


def _add_outside(rng: Generator, requests: Columns, users: int, clock: Clock) -> Columns:
    """Append the calls of another surface, which no experiment covers; one in five names no user."""
    n = round(_OUTSIDE_SHARE * len(requests["user"]))
    ts = clock.start + clock.seconds * rng.random(n)
    extra = {
        "user": np.where(rng.random(n) < 0.2, -1, rng.integers(0, users, n)),
        "session": np.full(n, -1),
        "turn": np.ones(n, dtype=np.int64),
        "ts": _milliseconds(ts),
        "stage": np.full(n, -1, dtype=np.int8),
        "arm": np.full(n, -1, dtype=np.int8),
        "kind": np.full(n, OUTSIDE, dtype=np.int8),
    }
    return {name: np.concatenate([column, extra[name]]) for name, column in requests.items()}


def _outcomes(rng: Generator, requests: Columns, users: int, story: Scenario, clock: Clock) -> None:
    """Add what happened to each request, in place. An error has no answer: what only an answer can tell is unknown."""
    n = len(requests["user"])
    effects = rng.standard_normal((3, users))[:, requests["user"]]
    treated = requests["arm"] == 1
    error = rng.random(n) < model.ERROR_RATE
    t = (requests["ts"] / _MICRO - clock.start) / clock.seconds
    rate = story.refusal[0] + (story.refusal[1] - story.refusal[0]) * t + story.refusal_points * treated
    refused = rng.random(n) < model.logit_normal(rate, model.REFUSAL_SIGMA, effects[0])
    format_ok = rng.random(n) < FORMAT_OK + story.format_points * treated
    requests["refused"] = np.where(error, -1, refused).astype(np.int8)
    requests["format_ok"] = np.where(error, -1, format_ok).astype(np.int8)
    requests["is_error"] = error
    requests["error"] = np.where(error, rng.integers(1, len(ERROR_TYPES), n), 0).astype(np.int8)
    latency = _latency(rng, treated, effects[1], model.tail_factor(story.latency_p99))
    requests["latency_ms"] = np.round(latency, 1)
    requests["ttft_ms"] = np.where(error, np.nan, np.round(latency * rng.beta(2, 6, n), 1))
    _tokens_and_cost(rng, requests, effects[2], np.where(treated, 1 + story.cost, 1.0))


def _latency(rng: Generator, treated: Array, effect: Array, factor: float) -> Array:
    n = len(treated)
    body = model.LATENCY_MEDIAN * np.exp(model.LATENCY_SIGMA * rng.standard_normal(n))
    pareto = (1 - rng.random(n)) ** (-1 / model.TAIL_INDEX)
    tail = model.TAIL_START * pareto * np.where(treated, factor, 1.0)
    slow = rng.random(n) < model.TAIL_WEIGHT
    return np.exp(model.LATENCY_USER * effect) * np.where(slow, tail, body)


def _tokens_and_cost(rng: Generator, requests: Columns, effect: Array, price: Array) -> None:
    n = len(effect)
    history = 1 + model.INPUT_PER_TURN * (requests["turn"] - 1)
    inputs = np.rint(model.INPUT_MEDIAN * history * np.exp(model.INPUT_SIGMA * rng.standard_normal(n)))
    log_size = model.OUTPUT_SIGMA * rng.standard_normal(n) + model.OUTPUT_USER * effect
    answer = np.clip(np.rint(model.OUTPUT_MEDIAN * np.exp(log_size)), 1, model.OUTPUT_CAP)
    pareto = model.THINK_START * (1 - rng.random(n)) ** (-1 / model.THINK_INDEX)
    thinking = np.where(rng.random(n) < model.THINKS, np.minimum(np.rint(pareto), model.THINK_CAP), 0)
    cost = price * (model.INPUT_PRICE * inputs + model.OUTPUT_PRICE * (answer + thinking))
    error = requests["is_error"]
    requests["input_tokens"] = np.where(error, -1, inputs).astype(np.int64)
    requests["output_tokens"] = np.where(error, -1, answer + thinking).astype(np.int64)
    requests["reasoning_tokens"] = np.where(error, -1, thinking).astype(np.int64)
    requests["cost_usd"] = np.where(error, 0.0, np.rint(cost * _MICRO) / _MICRO)


def _attempts(rng: Generator, requests: Columns, clock: Clock) -> Columns:
    """Put failed attempts before some requests and sort all calls by time; the outcome drawn is the last attempt's.

    Failed attempts come 2 to 8 s before each other. None falls into an earlier stage: it would show its user there in
    an arm that the user entered only later.
    """
    n = len(requests["user"])
    failed = rng.choice(len(_RETRIES), size=n, p=_RETRIES)
    pause = rng.integers(2000, 8000, n) * 1000
    opened = np.array(clock.edges, dtype=np.int64)[np.maximum(requests["stage"], 0)] * _MICRO
    failed[requests["ts"] - failed * pause < opened] = 0
    request = np.repeat(np.arange(n), failed + 1)
    attempt = _within(failed + 1)
    calls = _pick(requests, request)
    calls["request"] = request
    calls["attempt"] = attempt + 1
    calls["final"] = attempt == failed[request]
    calls["ts"] = calls["ts"] - (failed[request] - attempt) * pause[request]
    _mark_failed(rng, calls, np.flatnonzero(~calls["final"]))
    return _pick(calls, np.argsort(calls["ts"], kind="stable"))


def _mark_failed(rng: Generator, calls: Columns, rows: Array) -> None:
    for name in ("refused", "format_ok", "input_tokens", "output_tokens", "reasoning_tokens"):
        calls[name][rows] = -1
    calls["is_error"][rows] = True
    calls["error"][rows] = rng.integers(1, len(ERROR_TYPES), len(rows))
    calls["latency_ms"][rows] = np.round(rng.uniform(50, 2000, len(rows)), 1)
    calls["ttft_ms"][rows] = np.nan
    calls["cost_usd"][rows] = 0.0


def _scores(rng: Generator, calls: Columns, users: int, story: Scenario, clock: Clock) -> Columns:
    """Draw judge scores (minutes to 12 h late, even on the log scale) and users' thumbs (within minutes).

    What would arrive after the period is not there yet. Thumbs name the request, so only requests without a retry,
    where that is unambiguous, get one.
    """
    effect = rng.standard_normal(users)
    answered = np.flatnonzero(calls["final"] & ~calls["is_error"] & (calls["arm"] >= 0))
    mean = HELPFULNESS + story.helpfulness * (calls["arm"][answered] == 1)
    quality = model.logit_normal(mean, model.HELP_SIGMA, effect[calls["user"][answered]])
    judged = rng.random(len(answered)) < model.JUDGED
    thumbed = (rng.random(len(answered)) < _THUMBS) & (calls["attempt"][answered] == 1)
    n_judged, n_thumbed = int(judged.sum()), int(thumbed.sum())
    at_mean = np.clip(quality[judged], 1e-6, 1 - 1e-6) * model.HELP_PRECISION
    value = np.round(rng.beta(at_mean, model.HELP_PRECISION - at_mean), 3)
    value[rng.random(n_judged) < model.JUDGE_FAILS] = np.nan
    late = np.exp(rng.uniform(math.log(120), math.log(12 * 3600), n_judged))
    soon = 5 + rng.exponential(120, n_thumbed)
    thumbs = (rng.random(n_thumbed) < quality[thumbed]).astype(np.float64)
    call = np.concatenate([answered[judged], answered[thumbed]])
    delay = np.concatenate([late, soon]) + calls["latency_ms"][call] / 1000
    columns = {
        "ts": calls["ts"][call] + _milliseconds(delay),
        "call": call,
        "name": np.repeat(np.array([0, 1], dtype=np.int8), [n_judged, n_thumbed]),
        "value": np.concatenate([value, thumbs]),
    }
    columns = _pick(columns, np.flatnonzero(columns["ts"] < clock.end * _MICRO))
    return _pick(columns, np.argsort(columns["ts"], kind="stable"))


def _truth(story: Scenario, users: int, days: float, seed: int, clock: Clock) -> dict[str, Any]:
    """Return the content of truth.json: what was put into the logs, and what should come out of them."""
    effects = ("refusal_points", "latency_p99", "cost", "format_points", "helpfulness")
    broken = ("lost_new_users", "contaminated", "old_prompt", "no_control")
    metrics = model.true_metrics(story, clock)
    return {
        "schema": "abtest.truth/1",
        "scenario": story.name,
        "sentence": story.sentence,
        "seed": seed,
        "parameters": {
            "users": users,
            "days": days,
            "start": iso(clock.start),
            "end": iso(clock.end),
            "stages": [{"at": iso(at), "share": share} for at, share in zip(clock.edges, clock.shares, strict=True)],
            "refusal_drift": list(story.refusal),
            "effects": {name: getattr(story, name) for name in effects},
            "broken": {name: getattr(story, name) for name in broken},
        },
        "metrics": metrics,
        "expected": {
            "decision": story.decision,
            "exit_code": story.exit_code,
            "metric": story.metric,
            "harmed_metric": next((m for m, row in metrics.items() if row["harm_past_margin"]), None),
        },
    }


def iso(seconds: int) -> str:
    """Return epoch seconds as RFC 3339 in UTC."""
    return f"{np.datetime64(seconds, 's')}Z"
