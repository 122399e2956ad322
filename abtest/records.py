"""What is logged: the native format of abtest, one pydantic model a record type.

Strict on purpose (`strict=True`, no extra keys, finite numbers, aware datetimes): a value that would have to be
guessed is a bad row, and a bad row goes to quarantine with its reason. None means "the log cannot tell".
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, FiniteFloat, NonNegativeInt, model_validator

Text = Annotated[str, Field(min_length=1, max_length=4096)]
NonNegative = Annotated[FiniteFloat, Field(ge=0)]
Sha256 = Annotated[str, Field(min_length=1, max_length=128)]

GENERATION = ("chat", "text_completion", "generate_content")
"""Operations that count as a model answer; None (unknown) counts too."""


class Record(BaseModel):
    """Settings shared by the three record types."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class Interaction(Record):
    """One model call. Required: interaction_id, ts (start of the request), model."""

    type: Literal["interaction"] = "interaction"
    interaction_id: Text
    ts: AwareDatetime
    model: Text
    unit_id: Text | None = None
    experiment_id: Text | None = None
    variant: Text | None = None
    request_id: Text | None = None
    exposed: bool = True
    turn: Annotated[int, Field(ge=1, le=2**31 - 1)] = 1
    session_id: Text | None = None
    trace_id: Text | None = None
    span_id: Text | None = None
    provider_response_id: Text | None = None
    surface: Text | None = None
    environment: Text | None = None
    operation: Text | None = None
    provider: Text | None = None
    model_version: Text | None = None
    prompt_name: Text | None = None
    prompt_version: Text | None = None
    prompt_sha256: Sha256 | None = None
    embedding_model_version: Text | None = None
    index_id: Text | None = None
    ruleset_version: Text | None = None
    latency_ms: NonNegative | None = None
    ttft_ms: NonNegative | None = None
    input_tokens: NonNegativeInt | None = None
    cached_input_tokens: NonNegativeInt | None = None
    output_tokens: NonNegativeInt | None = None
    reasoning_tokens: NonNegativeInt | None = None
    cost_usd: NonNegative | None = None
    finish_reason: Text | None = None
    refused: bool | None = None
    format_ok: bool | None = None
    is_error: bool = False
    stream: bool | None = None
    params_sha256: Sha256 | None = None
    tools_sha256: Sha256 | None = None
    system_fingerprint: Text | None = None
    repeat: NonNegativeInt | None = None
    error_type: Text | None = None
    http_status: Annotated[int, Field(ge=0, le=999)] | None = None
    cache_hit: bool | None = None
    attempt: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    response_chars: NonNegativeInt | None = None
    prompt_text: str | None = None
    response_text: str | None = None
    attributes: dict[str, Any] = Field(default_factory=dict)


class Assignment(Record):
    """A unit was given a variant (a feature-flag evaluation). `reason` tells whether it was randomised."""

    type: Literal["assignment"] = "assignment"
    experiment_id: Text
    unit_id: Text
    variant: Text
    ts: AwareDatetime
    reason: Text | None = None
    ruleset_version: Text | None = None
    provider: Text | None = None


class Score(Record):
    """A judgement of an answer by a human, a judge model, the user or code. A judge failure is a row with error_type."""

    type: Literal["score"] = "score"
    score_id: Text
    ts: AwareDatetime
    name: Text
    scorer_kind: Literal["human", "judge", "user", "code"]
    value: FiniteFloat | None = None
    label: Text | None = None
    scorer_id: Text | None = None
    label_probability: Annotated[FiniteFloat, Field(gt=0, le=1)] | None = None
    updated_at: AwareDatetime | None = None
    interaction_id: Text | None = None
    request_id: Text | None = None
    variant: Text | None = None
    trace_id: Text | None = None
    span_id: Text | None = None
    provider_response_id: Text | None = None
    explanation: str | None = None
    error_type: Text | None = None

    @model_validator(mode="after")
    def _has_content_and_target(self) -> Score:
        if self.value is None and self.label is None and self.error_type is None:
            raise ValueError("a score needs value, label or error_type")
        targets = (self.interaction_id, self.trace_id, self.provider_response_id, self.request_id and self.variant)
        if not any(targets):
            raise ValueError(
                "a score needs a target: interaction_id, request_id + variant, trace_id or provider_response_id"
            )
        return self


AnyRecord = Interaction | Assignment | Score
