"""Segments: a further key to group by, and which of its levels are told apart."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import Field, model_validator
from sqlglot import exp
from sqlglot.expressions.core import Expr as Node

from abtest.errors import SpecError, did_you_mean
from abtest.metrics.base import MetricSpec, Name, Strict, quoted
from abtest.metrics.expressions import Expression, parse

NONE = "(none)"
"""The level of calls for which the expression is NULL."""
OTHER = "(other)"
"""The level of all levels that are too rare to stand alone."""
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,99}")


class Segment(Strict):
    """A key to look at the metrics by: a column (`surface`) or an expression (`attributes ->> 'country'`).

    Results by level are exploratory; they decide nothing unless a guardrail lists a level.
    """

    by: Annotated[str, Field(min_length=1, description="a column, or an expression over columns")]
    name: Annotated[Name | None, Field(description="default: the column, or the key of attributes")] = None
    max_levels: Annotated[int, Field(ge=1, le=1000, description="rarer levels are put together as (other)")] = 200

    @model_validator(mode="after")
    def _has_a_name(self) -> Segment:
        expression = self.expression()
        if not expression.columns:
            raise ValueError(f"by: {quoted(self.by)} reads no column")
        if self.name is None and _name_of(expression) is None:
            raise ValueError(f"give it a name: by = {quoted(self.by)} is not a plain column")
        return self

    @property
    def key(self) -> str:
        """Return what the segment is called in results: "surface" of "surface=support"."""
        return self.name or _name_of(self.expression()) or self.by

    def expression(self, derived: Mapping[str, Node] | None = None) -> Expression:
        """Return the expression, checked; raises SpecError."""
        return parse(self.by, key="segments.by", derived=derived)

    def level_sql(self, levels: Sequence[str] | None = None, derived: Mapping[str, Node] | None = None) -> str:
        """Return the expression (over `i`) of the level of a call, a text that is never NULL.

        Args:
            levels: Tell only these levels apart, all others are one.
            derived: What derived names stand for.
        """
        level = f"coalesce(cast(({self.expression(derived).sql('i')}) as varchar), '{NONE}')"
        if levels is None:
            return level
        wanted = ", ".join(exp.Literal.string(name).sql(dialect="duckdb") for name in levels)
        return f"case when {level} in ({wanted}) then {level} else '{OTHER}' end"


def split_level(text: str) -> tuple[str, str]:
    """Return key and level of "surface=support"."""
    key, _, level = text.partition("=")
    return key, level


def check_levels(metric: MetricSpec, segments: Sequence[Segment]) -> None:
    """Raise SpecError when a guardrail lists a level of a segment that the spec does not have."""
    keys = [s.key for s in segments]
    for text in metric.guardrail.segments if metric.guardrail else ():
        key = split_level(text)[0]
        if key not in keys:
            raise SpecError(
                f"no [[segments]] is called {quoted(key)}", key=f"metrics.{metric.name}.guardrail.segments",
                hint=did_you_mean(key, keys) if keys else f'add [[segments]] by = "{key}"',
            )  # fmt: skip


def _name_of(expression: Expression) -> str | None:
    """Return the column, or the last key of a JSON path, where that is a usable name."""
    node = expression.tree.unnest()
    name = node.name if isinstance(node, exp.Column) else ""
    if isinstance(node, exp.JSONExtractScalar) and isinstance(node.expression, exp.JSONPath):
        name = str(node.expression.expressions[-1].name)
    return name if _WORD.fullmatch(name) else None
