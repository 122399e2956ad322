"""Columns to NDJSON, in the native format (FORMATS: interaction and score).

A call has some forty keys, most of them constant for its kind. So each kind has one %-template with the constants in
place, and a row is one formatting of the values that vary; this is several times as fast as `json.dumps` of a dict.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from abtest.simulate.draw import (
    BASELINE,
    CANDIDATE,
    CANDIDATE_OLD_PROMPT,
    ERROR_TYPES,
    OUTSIDE,
    SCORE_NAMES,
    Simulation,
)
from abtest.simulate.model import JUDGED, OUTPUT_CAP

_EXPERIMENT = "@experiment@"  # stands for the id until the lines are made
ARMS = ("baseline", "candidate")
MODELS = ("gpt-4o-2024-08-06", "claude-sonnet-4-5")
PROMPTS = ("v12", "v13")

_TRI = ("false", "true", "null")  # index -1 is unknown
_HTTP = (200, 504, 429, 503)  # as ERROR_TYPES
_FINISH = ('"stop"', '"refusal"', '"length"', '"error"')


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _support(arm: int, prompt: str) -> dict[str, Any]:
    """Return the keys that are the same in every call of one arm and prompt version."""
    return {
        "experiment_id": _EXPERIMENT,
        "variant": ARMS[arm],
        "surface": "support",
        "environment": "prod",
        "operation": "chat",
        "provider": ("openai", "anthropic")[arm],
        "model": MODELS[arm],
        "model_version": ("gpt-4o-2024-08-06", "claude-sonnet-4-5-20250929")[arm],
        "prompt_name": "support-answer",
        "prompt_version": prompt,
        "prompt_sha256": _sha(f"support-answer {prompt}"),
        "params_sha256": _sha(f"params {ARMS[arm]}"),
        "embedding_model_version": "text-embedding-3-large@1",
        "index_id": "support-kb-2026-10",
        "stream": True,
    }


_OUTSIDE = {
    **_support(0, "v3"),
    "experiment_id": None,
    "variant": None,
    "surface": "search",
    "model": "gpt-4o-mini-2024-07-18",
    "model_version": "gpt-4o-mini-2024-07-18",
    "prompt_name": "search-rewrite",
    "prompt_sha256": _sha("search-rewrite v3"),
    "params_sha256": _sha("params search"),
    "embedding_model_version": None,
    "index_id": None,
    "stream": False,
}

_CONSTANTS: dict[int, dict[str, Any]] = {
    BASELINE: _support(0, PROMPTS[0]),
    CANDIDATE: _support(1, PROMPTS[1]),
    CANDIDATE_OLD_PROMPT: _support(1, PROMPTS[0]),
    OUTSIDE: _OUTSIDE,
}

_VARYING = (
    '"interaction_id":"%s","ts":"%sZ","unit_id":%s,"session_id":%s,"request_id":"%s","trace_id":"%016x%016x",'
    '"span_id":"%016x","provider_response_id":%s,"turn":%d,"attempt":%d,"latency_ms":%s,"ttft_ms":%s,'
    '"input_tokens":%s,"output_tokens":%s,"reasoning_tokens":%s,"response_chars":%s,"cost_usd":%s,'
    '"finish_reason":%s,"refused":%s,"format_ok":%s,"is_error":%s,"error_type":%s,"http_status":%d'
)
_CALL = {
    kind: '{"type":"interaction",'
    + json.dumps(keys, separators=(",", ":"))[1:-1].replace("%", "%%")
    + ","
    + _VARYING
    + "}\n"
    for kind, keys in _CONSTANTS.items()
}
_JUDGE = (
    '{"type":"score","score_id":"%s","ts":"%sZ","name":"helpfulness","scorer_kind":"judge",'
    f'"scorer_id":"gpt-4o-judge@rubric-v4","label_probability":{JUDGED},'
    '"interaction_id":"%s","value":%s,"error_type":%s}\n'
)
_THUMB = (
    '{"type":"score","score_id":"%s","ts":"%sZ","name":"thumbs","scorer_kind":"user",'
    '"request_id":"%s","variant":"%s","value":%s}\n'
)


def _times(ts: NDArray[np.int64]) -> list[str]:
    """Return epoch microseconds as RFC 3339 without the zone, to the millisecond."""
    return np.datetime_as_string((ts // 1000).astype("datetime64[ms]")).tolist()


def _mixed(run: str, salt: str, numbers: NDArray[Any]) -> list[int]:
    """Return 64 pseudo-random bits per number (splitmix64), for ids that look like real ones."""
    seed = int(hashlib.sha256(f"{run} {salt}".encode()).hexdigest()[:16], 16)
    x = numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (x ^ (x >> np.uint64(31))).tolist()


def _floats(values: NDArray[np.float64]) -> list[Any]:
    """Return floats as JSON knows them: NaN becomes null."""
    return ["null" if x != x else x for x in values.tolist()]


def _counts(values: NDArray[Any]) -> list[Any]:
    """Return counts as JSON knows them: -1 (unknown) becomes null."""
    return ["null" if x < 0 else x for x in values.tolist()]


def _named(pattern: str, numbers: NDArray[Any]) -> list[str]:
    """Return quoted ids; -1 (none) becomes null."""
    return ["null" if x < 0 else pattern % x for x in numbers.tolist()]


def call_lines(sim: Simulation, rows: NDArray[np.int64]) -> list[str]:
    """Return the lines of these rows of `sim.calls`, newline included."""
    c = {name: column[rows] for name, column in sim.calls.items()}
    run = sim.run
    errors = c["error"].tolist()
    answers = [f'"resp_{x:016x}"' for x in _mixed(run, "response", rows)]
    output, thinking = c["output_tokens"], c["reasoning_tokens"]
    chars = np.where(output < 0, -1, np.rint(4.2 * (output - thinking)).astype(np.int64))
    full = np.where(output - thinking >= OUTPUT_CAP, 2, 0)
    finish = np.where(c["is_error"], 3, np.where(c["refused"] == 1, 1, full))
    columns = (
        [f"{run}-{x:07d}" for x in rows.tolist()],
        _times(c["ts"]),
        _named('"user-%07d"', c["user"]),
        _named(f'"{run}-s%07d"', c["session"]),
        [f"{run}-r{x:07d}" for x in c["request"].tolist()],
        _mixed(run, "trace high", c["request"]),
        _mixed(run, "trace low", c["request"]),
        _mixed(run, "span", rows),
        ["null" if e else a for e, a in zip(errors, answers, strict=True)],
        c["turn"].tolist(),
        c["attempt"].tolist(),
        c["latency_ms"].tolist(),
        _floats(c["ttft_ms"]),
        _counts(c["input_tokens"]),
        _counts(output),
        _counts(thinking),
        _counts(chars),
        c["cost_usd"].tolist(),
        [_FINISH[x] for x in finish.tolist()],
        [_TRI[x] for x in c["refused"].tolist()],
        [_TRI[x] for x in c["format_ok"].tolist()],
        [_TRI[x] for x in c["is_error"].tolist()],
        [json.dumps(ERROR_TYPES[e]) for e in errors],
        [_HTTP[e] for e in errors],
    )
    templates = {kind: text.replace(_EXPERIMENT, sim.scenario.experiment) for kind, text in _CALL.items()}
    return [
        templates[kind] % values for kind, values in zip(c["kind"].tolist(), zip(*columns, strict=True), strict=True)
    ]


def score_lines(sim: Simulation, rows: NDArray[np.int64]) -> list[str]:
    """Return the lines of these rows of `sim.scores`, newline included."""
    s = {name: column[rows] for name, column in sim.scores.items()}
    request, arm = sim.calls["request"][s["call"]], sim.calls["arm"][s["call"]]
    columns = zip(
        rows.tolist(),
        _times(s["ts"]),
        s["name"].tolist(),
        s["call"].tolist(),
        request.tolist(),
        arm.tolist(),
        _floats(s["value"]),
        strict=True,
    )
    return [_score(sim.run, *values) for values in columns]


def _score(run: str, row: int, ts: str, name: int, call: int, request: int, arm: int, value: Any) -> str:
    score = f"{run}-score{row:07d}"
    if SCORE_NAMES[name] == "thumbs":
        return _THUMB % (score, ts, f"{run}-r{request:07d}", ARMS[arm], value)
    failed = '"judge_parse_error"' if value == "null" else "null"
    return _JUDGE % (score, ts, f"{run}-{call:07d}", value, failed)


def blocks(sim: Simulation, start: int, end: int, size: int = 20_000) -> Iterator[bytes]:
    """Yield the log lines of [start, end) (epoch microseconds) in order of time, `size` rows at a time.

    Memory stays bounded by the block, whatever the size of the simulation. Calls come before scores of the same time.
    """
    call_from, call_to = np.searchsorted(sim.calls["ts"], (start, end))
    score_from, score_to = np.searchsorted(sim.scores["ts"], (start, end))
    ts = np.concatenate([sim.calls["ts"][call_from:call_to], sim.scores["ts"][score_from:score_to]])
    n_calls = int(call_to - call_from)
    order = np.argsort(ts, kind="stable")
    for at in range(0, len(order), size):
        block = order[at : at + size]
        is_call = block < n_calls
        calls = iter(call_lines(sim, block[is_call] + call_from))
        scores = iter(score_lines(sim, block[~is_call] - n_calls + score_from))
        yield "".join([next(calls) if flag else next(scores) for flag in is_call.tolist()]).encode("ascii")
