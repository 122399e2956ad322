"""What the catalogue holds, as plain data: see `catalog.Entry` for the fields.

Margins are what most teams would call too much: one point for rates that are rare, 20 to 40 % for latency (the further out the
quantile, the noisier), 10 to 20 % for money. A halt is for what hurts users at once; what money or late clicks say can hold.
"""

from __future__ import annotations

from typing import Any

_TIMEOUT = (
    "CASE WHEN NOT is_error THEN FALSE "
    "WHEN http_status IN (408, 504) OR error_type IN ('timeout', 'Timeout', 'TimeoutError', 'APITimeoutError', 'ReadTimeout', "
    "'ConnectTimeout', 'openai.APITimeoutError', '<class ''openai.APITimeoutError''>', 'anthropic.APITimeoutError', "
    "'<class ''anthropic.APITimeoutError''>', '408', '504', 'DEADLINE_EXCEEDED', 'deadline_exceeded') THEN TRUE "
    "WHEN http_status IS NULL AND error_type IS NULL THEN NULL ELSE FALSE END"
)
_SUCCESS = "CASE WHEN is_error OR refused OR NOT format_ok THEN 0 ELSE 1 END"
_MDE_RELATIVE = {"relative": 0.05}
_POINT = {"points": 0.01}


def _rate(
    name: str, definition: str, logged: str, *, action: str = "halt", better: str = "lower", **keys: Any
) -> dict[str, Any]:
    return {
        "name": name, "definition": definition, "logged": logged, "margin": _POINT, "action": action, "mde": _POINT,
        "keys": {"kind": "proportion", "better": better, **keys},
    }  # fmt: skip


def _click(name: str, score: str, definition: str, better: str = "lower") -> dict[str, Any]:
    """A user signal that is logged only when it happens: no score means that it did not happen."""
    logged = f"a user score named {score} (value 1) for each request where it happened"
    return _rate(
        name, definition, logged, action="hold", better=better, score=score, scorer_kind="user", absent="no"
    )  # fmt: skip


def _quantiles(
    column: str, stem: str, of: str, unit: str, margins: dict[str, float], action: str
) -> list[dict[str, Any]]:
    return [
        {
            "name": f"{stem}_{p}", "definition": f"{p} over requests of {of}", "logged": column,
            "margin": {"relative": margin}, "action": action, "mde": _MDE_RELATIVE,
            "keys": {"kind": "quantile", "value": column, "q": int(p[1:]) / 100, "better": "lower", "unit": unit},
        }
        for p, margin in margins.items()
    ]  # fmt: skip


def _shape(name: str, column: str, of: str) -> dict[str, Any]:
    """A distribution that moves may be verbosity, answers that are cut, or a mode collapse: somebody should look, so it holds."""
    return {
        "name": name, "definition": f"largest difference of the share of requests above control's p10, p25, p50, p75 and p90 of {of}",
        "logged": column, "margin": {"points": 0.1}, "action": "hold", "mde": {},
        "keys": {"kind": "distribution", "value": column, "better": "lower"},
    }  # fmt: skip


def _mean(
    name: str, definition: str, value: str, unit: str, margin: float = 0.2, logged: str | None = None
) -> dict[str, Any]:
    return {
        "name": name, "definition": definition, "logged": logged or value, "margin": {"relative": margin}, "action": "hold",
        "mde": _MDE_RELATIVE, "keys": {"kind": "mean", "value": value, "better": "lower", "unit": unit},
    }  # fmt: skip


def _judgement(name: str, definition: str, scorer: str, logged: str) -> dict[str, Any]:
    # A judge without calibration may hold a release, never halt it (STATISTICS §10).
    return {
        "name": name, "definition": definition, "logged": logged, "margin": {"relative": 0.02}, "action": "hold",
        "mde": {"relative": 0.02}, "needs": ("score",), "keys": {"kind": "mean", "scorer_kind": scorer, "better": "higher"},
    }  # fmt: skip


_LATENCY = {"p50": 0.2, "p95": 0.3, "p99": 0.4}
_LENGTH = {"p50": 0.25, "p90": 0.25}

ENTRIES: tuple[dict[str, Any], ...] = (
    _rate("refusal_rate", "share of requests that the model refused to answer", "refused", event="refused"),
    _rate("error_rate", 'share of requests whose counted attempt failed (per = "call" counts every attempt)', "is_error", event="is_error"),
    _rate(
        "timeout_rate", "share of requests whose counted attempt took too long and failed (HTTP 408 or 504, or a timeout error type)",
        "is_error, and http_status or error_type of failed calls", event=_TIMEOUT,
    ),
    _rate(
        "truncation_rate", "share of requests whose answer was cut off at the token limit", "finish_reason", action="hold",
        event="finish_reason = 'length'",
    ),
    _rate(
        "format_validity", "share of answers in the asked-for format", "format_ok", better="higher", event="format_ok",
    ),
    _rate(
        "parse_success", "share of answers that your own parser could read", "attributes.parse_ok (true or false)",
        better="higher", event="TRY_CAST(attributes ->> 'parse_ok' AS BOOLEAN)",
    ),
    _click("thumbs_down_rate", "thumbs_down", "share of requests with a thumbs-down"),
    _click("thumbs_up_rate", "thumbs_up", "share of requests with a thumbs-up", better="higher"),
    _click("regeneration_rate", "regenerated", "share of requests whose answer the user asked for again"),
    _click("abandonment_rate", "abandoned", "share of requests after which the user left without a result"),
    *_quantiles("latency_ms", "latency", "the time to the full answer, failed calls included", "ms", _LATENCY, "halt"),
    *_quantiles("ttft_ms", "ttft", "the time to the first token", "ms", _LATENCY, "halt"),
    _mean("input_tokens_per_request", "mean input tokens, cached ones included", "input_tokens", "tokens"),
    _mean("output_tokens_per_request", "mean output tokens, reasoning ones included", "output_tokens", "tokens"),
    _mean("reasoning_tokens_per_request", "mean reasoning tokens", "reasoning_tokens", "tokens"),
    {
        "name": "cached_input_share", "definition": "cached input tokens over input tokens", "logged": "input_tokens, cached_input_tokens",
        "margin": {"relative": 0.1}, "action": "hold", "mde": _MDE_RELATIVE,
        "keys": {"kind": "ratio", "numerator": "cached_input_tokens", "denominator": "input_tokens", "better": "higher"},
    },
    _mean(
        "cost_per_request", "mean cost of the attempt that counts (of all attempts with per_request = \"sum\")", "cost", "USD",
        logged="cost_usd; or tokens and a price book in [prices]",
    ),
    {
        "name": "cost_per_success",
        "definition": "cost of all calls, failed attempts included, over calls that are not known to have failed, refused or missed the format",
        "logged": "cost_usd, or tokens and a price book in [prices]; is_error; refused and format_ok where known",
        "margin": {"relative": 0.1}, "action": "hold", "mde": _MDE_RELATIVE,
        "keys": {"kind": "ratio", "numerator": "cost", "denominator": _SUCCESS, "per": "call", "better": "lower", "unit": "USD"},
    },
    _mean("output_chars_mean", "mean length of the answer", "response_chars", "characters", 0.25),
    *_quantiles("response_chars", "output_chars", "the length of the answer", "characters", _LENGTH, "hold"),
    *_quantiles("output_tokens", "output_tokens", "the output tokens", "tokens", _LENGTH, "hold"),
    _shape("output_length_shape", "response_chars", "the length of the answer"),
    _shape("output_tokens_shape", "output_tokens", "the output tokens"),
    _judgement("judge_score", "mean score by a judge model", "judge", "score = the name of the judge's scores"),
    _judgement("human_label", "mean score by human raters", "human", "score = the name of the raters' scores"),
    _judgement("user_rating", "mean rating by users, over rated answers", "user", "score = the name of the ratings"),
    {
        "name": "requests_per_unit", "definition": "requests of a user (session, request: what is randomised)", "logged": "unit_id",
        "margin": {"relative": 0.05}, "action": "hold", "mde": _MDE_RELATIVE, "keys": {"kind": "count", "better": "higher"},
    },
    {
        "name": "sessions_per_unit", "definition": "sessions that a unit began: requests that are the first turn of a session",
        "logged": "session_id, and turn (1 for the first request of a session; where turn is not logged, every request counts)",
        "margin": {"relative": 0.05}, "action": "hold", "mde": _MDE_RELATIVE,
        "keys": {
            "kind": "count", "event": "CASE WHEN session_id IS NULL THEN NULL ELSE turn = 1 END", "better": "higher",
        },
    },
)  # fmt: skip
