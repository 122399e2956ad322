"""`[halt] command`: a program that is told of a halt, and how soon a halt must show in the logs."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from abtest.metrics.base import Duration, Strict, duration_seconds

LONGEST_SECONDS = 60.0
"""A command may not hold up the next look at the logs for longer."""


def _short(value: str) -> str:
    if not 0 < duration_seconds(value) <= LONGEST_SECONDS:
        raise ValueError(f'more than 0 and at most {LONGEST_SECONDS:g} seconds; write timeout = "10s"')
    return value


class CommandTarget(Strict):
    """A program that is told of a halt: the decision on its stdin, as JSON. It is started without a shell."""

    argv: Annotated[
        list[Annotated[str, Field(max_length=4096)]],
        Field(min_length=1, max_length=100, description="the program and its arguments, without a shell"),
    ]
    timeout: Annotated[Duration, Field(description="after this it is ended: 10s, at most 60s")] = "10s"

    @field_validator("argv")
    @classmethod
    def _a_program(cls, value: list[str]) -> list[str]:
        if not value[0].strip():
            raise ValueError('the program is empty; write argv = ["./on-halt.sh"]')
        if any("\0" in part for part in value):
            raise ValueError("a program cannot be given a zero byte")
        return value

    @field_validator("timeout")
    @classmethod
    def _not_long(cls, value: str) -> str:
        return _short(value)
