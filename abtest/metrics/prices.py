"""The price book: what a model costs from which day on, and the expression that turns token counts into dollars.

Cost of a call, in USD: the logged `cost_usd`, else from the newest price of its model that holds on the day of the call

    ((input - cached) * p_input + cached * p_cached + (output - reasoning) * p_output + reasoning * p_reasoning) / 10**6

with `input_tokens` counting the cached ones and `output_tokens` the reasoning ones, prices in USD a million tokens. A cost is
known only when the formula determines it: no price for the model on that day, a token count that is missing and matters, more
cached than input tokens, or an answer out of the gateway's own cache (`cache_hit`, billed by nobody knows whom): NULL.

No book is read unless the spec names one: list prices change, and a guessed price is worse than none.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, FiniteFloat, TypeAdapter, ValidationError, field_validator, model_validator
from sqlglot import exp
from sqlglot.expressions.core import Expr as Node

from abtest.errors import SpecError, did_you_mean
from abtest.metrics.base import Strict, quoted

MAX_PRICES = 500
MAX_BYTES = 1_000_000
_NANO_PER_MILLION = 1000
"""USD a million tokens times this is billionths of a dollar a token: whole numbers for the usual prices."""


def _no_number(value: Any) -> Any:
    if isinstance(value, (int, float)):
        raise ValueError("write a day, since = 2026-11-01")
    return value


Day = Annotated[date, BeforeValidator(_no_number)]
Dollars = Annotated[FiniteFloat, Field(ge=0, le=1e6, description="USD per million tokens")]
Text = Annotated[str, Field(min_length=1, max_length=4096)]


class Price(Strict):
    """What one model costs from the start of a day (UTC) on; the next price of the same name and provider ends it."""

    name: Annotated[Text, Field(description="as in model_version, else in model, of the logs; exactly")]
    provider: Annotated[Text | None, Field(description="only calls of this provider; without it, any")] = None
    since: Day
    until: Annotated[Day | None, Field(description="first day on which it does not hold any more")] = None
    input: Dollars
    output: Dollars
    cached_input: Annotated[
        Dollars | None, Field(description="for cached_input_tokens; the same as input when there is no discount")
    ] = None
    reasoning: Annotated[Dollars | None, Field(description="when reasoning tokens cost other than output tokens")] = (
        None
    )
    source: Annotated[str, Field(description="where the price was read")] = ""

    @model_validator(mode="after")
    def _in_order(self) -> Price:
        if self.until is not None and self.until <= self.since:
            raise ValueError("until must come after since")
        return self


class Prices(Strict):
    """The prices of an experiment: rows of its own, a file of the team, or both."""

    file: Annotated[str | None, Field(description="a price book, relative to the experiment file")] = None
    sha256: Annotated[str | None, Field(description="of that file; written by abtest when it reads the file")] = None
    missing_counts: Annotated[
        Literal["unknown", "zero"], Field(description="what a call without cached_input_tokens or reasoning_tokens had")
    ] = "unknown"
    model: Annotated[tuple[Price, ...], Field(max_length=MAX_PRICES)] = ()

    @field_validator("model")
    @classmethod
    def _one_a_day(cls, rows: tuple[Price, ...]) -> tuple[Price, ...]:
        seen: set[tuple[str | None, str, date]] = set()
        for row in rows:
            day = (row.provider, row.name, row.since)
            if day in seen:
                raise ValueError(f"{quoted(row.name)} has two prices since {row.since}")
            seen.add(day)
        # One order whatever the file has: the same book gives the same policy hash.
        return tuple(sorted(rows, key=lambda r: (r.provider is None, r.provider or "", r.name, r.since)))

    @model_validator(mode="after")
    def _was_read(self) -> Prices:
        if self.file is not None and self.sha256 is None:
            raise ValueError("file is read by Experiment.from_toml and Experiment.from_dict")
        return self

    def sentence(self) -> str:
        """Return where cost comes from, for people."""
        if not self.model:
            return "cost is the logged cost_usd; there is no price book, so a call without it has no cost"
        newest = max(row.since for row in self.model)
        rows = f"{len(self.model)} price{'s' if len(self.model) > 1 else ''}, the newest since {newest}"
        book = f"the price book {self.file}" if self.file else "the prices of the spec"
        return f"cost is the logged cost_usd, else {book} ({rows}); a call without either has no cost"


def cost_tree(prices: Prices) -> Node:
    """Return the cost of a call in USD as a tree over log columns: one CASE, portable, NULL where it is not known.

    A call is priced as the model that answered (`model_version`) where the book has that name at all, else as the model that was
    asked for (`model`). A price of the call's provider goes before one for any provider.
    """
    logged = exp.column("cost_usd")
    if not prices.model:
        return logged
    by_name: dict[str, list[tuple[Price, date | None]]] = {}
    for row, end in _spans(prices.model):
        by_name.setdefault(row.name, []).append((row, end))
    version = exp.column("model_version")
    answered = exp.In(this=version, expressions=[exp.Literal.string(name) for name in by_name])
    names = [
        (
            exp.Literal.string(name),
            _case([(_holds(row, end), _amount(row, prices.missing_counts)) for row, end in rows]),
        )
        for name, rows in by_name.items()
    ]
    return _case(
        [
            (exp.Not(this=exp.Is(this=logged, expression=exp.null())), logged.copy()),
            (exp.Coalesce(this=exp.column("cache_hit"), expressions=[exp.false()]), exp.null()),
        ],
        otherwise=_case(names, of=_case([(answered, version.copy())], otherwise=exp.column("model"))),
    )


def _case(branches: Iterable[tuple[Node, Node]], *, of: Node | None = None, otherwise: Node | None = None) -> Node:
    # Put together by hand: the builders of sqlglot copy what is there already with every branch.
    return exp.Case(this=of, ifs=[exp.If(this=when, true=then) for when, then in branches], default=otherwise)


def _spans(rows: Sequence[Price]) -> Iterable[tuple[Price, date | None]]:
    """Return every price with the day it ends, those of a provider first; spans of one model never overlap."""
    for _, group in groupby(rows, key=lambda r: (r.provider, r.name)):
        same = list(group)
        for row, following in zip(same, [*same[1:], None], strict=True):
            ends = [day for day in (row.until, following and following.since) if day is not None]
            yield row, min(ends, default=None)


def _holds(row: Price, end: date | None) -> Node:
    """Return the condition that a price is the one of a call: its provider and its day."""
    condition: Node = exp.GTE(this=exp.column("ts_us"), expression=_start_of(row.since))
    if end is not None:
        condition = exp.And(this=condition, expression=exp.LT(this=exp.column("ts_us"), expression=_start_of(end)))
    if row.provider is not None:
        provider = exp.EQ(this=exp.column("provider"), expression=exp.Literal.string(row.provider))
        condition = exp.And(this=provider, expression=condition)
    return condition


def _amount(row: Price, missing: Literal["unknown", "zero"]) -> Node:
    """Return the cost in USD, NULL where a count that matters is missing or impossible."""
    given = _part("input_tokens", row.input, "cached_input_tokens", row.cached_input, missing)
    if row.reasoning is None:
        answered = _times("output_tokens", row.output)
    else:
        answered = _part("output_tokens", row.output, "reasoning_tokens", row.reasoning, missing)
    return exp.Mul(
        this=exp.paren(exp.Add(this=given, expression=answered), copy=False), expression=exp.Literal.number("1e-9")
    )


def _part(total: str, price: float, part: str, part_price: float | None, missing: Literal["unknown", "zero"]) -> Node:
    """Return the cost of tokens of which some have a price of their own, in billionths of a dollar."""
    if part_price == price:
        return _times(total, price)  # how many of them does not matter
    count: Node = exp.column(part)
    zero = exp.Literal.number(0)
    if missing == "zero":
        count = exp.Coalesce(this=count, expressions=[zero])
    if part_price is None:
        return exp.paren(_case([(exp.EQ(this=count, expression=zero.copy()), _times(total, price))]))
    rest = exp.paren(exp.Sub(this=exp.column(total), expression=count), copy=False)
    cost = exp.Add(this=_times(rest, price), expression=_times(count.copy(), part_price))
    possible = exp.LTE(this=count.copy(), expression=exp.column(total))
    return exp.paren(_case([(possible, cost)]), copy=False)


def _times(tokens: str | Node, price: float) -> Node:
    # The exponent makes the literal a double on every engine; without it some would multiply decimals and overflow.
    rate = repr(round(price * _NANO_PER_MILLION, 9))
    number = exp.Literal.number(rate if "e" in rate else f"{rate}e0")
    return exp.Mul(this=exp.column(tokens) if isinstance(tokens, str) else tokens, expression=number)


def _start_of(day: date) -> Node:
    seconds = round(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())
    return exp.Literal.number(seconds * 1_000_000)


# -- reading -----------------------------------------------------------------------------------------------------


def example_book() -> str:
    """Return the text of the example that ships with abtest, to be copied and corrected."""
    return files("abtest.metrics").joinpath("prices.example.toml").read_text(encoding="utf-8")


def parse_book(text: str, file: str) -> list[dict[str, Any]]:
    """Return the rows of a price book (TOML with `[[model]]` tables), checked.

    Raises:
        SpecError: not TOML, another table or key, a bad row; names the price book and the key.
    """
    try:
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise SpecError(f"not TOML: {error}", file=file) from None
    unknown = sorted(set(data) - {"model"})
    if unknown:
        raise SpecError("unknown key", file=file, key=unknown[0], hint="a price book has [[model]] tables only")
    try:
        rows = TypeAdapter(list[Price]).validate_python(data.get("model", []))
    except ValidationError as error:
        raise _row_error(error, file) from None
    return [row.model_dump(mode="json", exclude_none=True) for row in rows]


def read_book(prices: Mapping[str, Any], folder: Path, *, reread: bool) -> dict[str, Any]:
    """Return the `[prices]` of a spec with the rows of its file put in and the file's sha256 beside its name.

    Args:
        prices: The table as the spec has it.
        folder: Where relative names start.
        reread: Read the file although its rows are there already (`sha256` is), and insist that it is the same file. A spec
            out of the decision ledger is not read again: it must mean what it meant then.

    Raises:
        SpecError: the file cannot be read, has changed, or holds something else.
    """
    name, known = prices.get("file"), prices.get("sha256")
    if not isinstance(name, str) or (known is not None and not reread):
        return dict(prices)
    path = folder / name
    content = _content(path)
    sha256 = hashlib.sha256(content).hexdigest()
    if known is not None and known != sha256:
        raise SpecError(
            "the price book is another one than this hash says", key="prices.sha256", hint=f"it is {sha256}"
        )
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise SpecError("not a text file", file=str(path), hint="a price book is TOML in UTF-8") from None
    own = prices.get("model", [])
    rows = parse_book(text, str(path))
    # What is no list of tables stays as it is: the model says what is wrong with it.
    return {**prices, "sha256": sha256, "model": [*own, *rows] if isinstance(own, (list, tuple)) else own}


def _content(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise SpecError("there is no such file", file=str(path), key="prices.file")
        with path.open("rb") as handle:
            content = handle.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL byte
        raise SpecError(f"cannot be read: {error}", file=str(path), key="prices.file") from None
    if len(content) > MAX_BYTES:
        raise SpecError(f"more than {MAX_BYTES} bytes is no price book", file=str(path), key="prices.file")
    return content


def _row_error(error: ValidationError, file: str) -> SpecError:
    first = error.errors(include_url=False)[0]
    key = "model" + "".join(f"[{s}]" if isinstance(s, int) else f".{s}" for s in first["loc"])
    if first["type"] == "extra_forbidden":
        return SpecError(
            "unknown key", file=file, key=key, hint=did_you_mean(str(first["loc"][-1]), Price.model_fields)
        )
    message = "this key is missing" if first["type"] == "missing" else first["msg"].removeprefix("Value error, ")
    return SpecError(message[:1].lower() + message[1:], file=file, key=key)
