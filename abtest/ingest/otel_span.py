"""The names of span attributes, by what they mean: one table for all dialects that travel as OpenTelemetry spans.

GenAI conventions, present and past (open-telemetry/semantic-conventions-genai), OpenInference
(Arize-ai/openinference, spec/semantic_conventions.md), Langfuse (the SDK's LangfuseOtelSpanAttributes), OpenLLMetry
(traceloop), vLLM and the spans of the Anthropic SDK. Names do not collide, so a file may mix dialects. Names with a
colon are facts that `otel_facts` reads out of attributes that hold JSON.
"""

from __future__ import annotations

from abtest.records import GENERATION

EMBEDDINGS = "embeddings"
OPERATIONS = (*GENERATION, EMBEDDINGS)

KIND_OPENINFERENCE = "openinference.span.kind"
KIND_LANGFUSE = "langfuse.observation.type"
KIND_GENAI = "gen_ai.operation.name"
KIND_TRACELOOP = "llm.request.type"

CONTEXT = {
    "experiment_id": ("abtest.experiment", "abtest.experiment_id", "feature_flag.key"),
    "variant": ("abtest.variant", "feature_flag.result.variant", "feature_flag.variant"),
    "unit_id": ("abtest.unit_id", "feature_flag.context.id", "user.id", "langfuse.user.id", "enduser.id"),
    "session_id": ("abtest.session_id", "session.id", "langfuse.session.id", "gen_ai.conversation.id"),
    "request_id": ("abtest.request_id",),
    "prompt_name": ("abtest.prompt_name", "gen_ai.prompt.name", "langfuse.observation.prompt.name"),
    "prompt_version": (
        "abtest.prompt_version",
        "gen_ai.prompt.version",
        "llm.prompt_template.version",
        "langfuse.observation.prompt.version",
        "langfuse.version",
    ),
    "prompt_sha256": ("abtest.prompt_sha256",),
    "index_id": ("abtest.index_id",),
    "ruleset_version": ("abtest.ruleset_version", "feature_flag.version"),
    "surface": ("abtest.surface", "langfuse.trace.name"),
    "environment": ("abtest.environment", "langfuse.environment"),
    "embedding_model_version": ("abtest.embedding_model_version",),
}
"""Native field: the attributes that carry it, best first; looked up on the span, then on the spans above it."""

GENERAL = frozenset({"user.id", "langfuse.user.id", "enduser.id", "langfuse.version"})
"""Attributes with a meaning of their own: what metadata and tags say of unit and prompt goes before them."""

FLAGS = ("exposed", "format_ok", "cache_hit")
NUMBERS = ("turn", "attempt", "repeat")
"""Native fields that only `abtest.*` attributes carry; baggage makes text of them."""

MODEL = (
    "gen_ai.request.model",
    "llm.request.model_name",
    "request:model",
    "langfuse.observation.model.name",
    "input:model",
)
MODEL_VERSION = ("gen_ai.response.model", "llm.response.model_name", "answer:model")
MODEL_EITHER = ("llm.model_name", "embedding.model_name")
"""OpenInference: the model that answered, and before there is an answer the one that was asked."""

PROVIDER = ("gen_ai.provider.name", "llm.provider", "gen_ai.system", "llm.system")
RESPONSE_ID = ("gen_ai.response.id", "answer:id", "gen_ai.request.id")
FINGERPRINT = (
    "openai.response.system_fingerprint",
    "gen_ai.openai.response.system_fingerprint",
    "gen_ai.openai.system_fingerprint",
    "answer:fingerprint",
)
FINISH = (
    "gen_ai.response.finish_reasons",
    "llm.finish_reason",
    "anthropic.message.stop_reason",
    "llm.response.finish_reason",
    "llm.response.stop_reason",
    "gen_ai.completion.0.finish_reason",
    "answer:finish_reason",
    "langfuse.observation.metadata.finish_reason",
    "event:finish_reason",
)
STREAM = ("gen_ai.request.stream", "llm.is_streaming", "gen_ai.is_streaming", "request:stream")
STATUS = ("http.response.status_code", "http.status_code")
ERROR = ("error.type", "exception.type", "event:exception.type")

INPUT_TOKENS = (
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.prompt_tokens",
    "llm.usage.prompt_tokens",
    "llm.token_count.prompt",
    "usage:input_tokens",
)
OUTPUT_TOKENS = (
    "gen_ai.usage.output_tokens",
    "gen_ai.usage.completion_tokens",
    "llm.usage.completion_tokens",
    "llm.token_count.completion",
    "usage:output_tokens",
)
CACHED_TOKENS = (
    "gen_ai.usage.cache_read.input_tokens",
    "gen_ai.usage.cache_read_input_tokens",
    "llm.token_count.prompt_details.cache_read",
    "usage:cached_input_tokens",
)
REASONING_TOKENS = (
    "gen_ai.usage.reasoning.output_tokens",
    "gen_ai.usage.reasoning_tokens",
    "llm.usage.reasoning_tokens",
    "llm.token_count.completion_details.reasoning",
    "usage:reasoning_tokens",
)
COST = ("abtest.cost_usd", "llm.cost.total", "gen_ai.usage.cost", "usage:cost")
FIRST_CHUNK_S = ("gen_ai.response.time_to_first_chunk", "gen_ai.latency.time_to_first_token")
"""Seconds from the request to the first piece of the answer."""

ANSWER_BEGUN = "langfuse.observation.completion_start_time"

PARAMETERS = tuple(
    f"gen_ai.request.{name}"
    for name in (
        "temperature",
        "top_p",
        "top_k",
        "max_tokens",
        "frequency_penalty",
        "presence_penalty",
        "seed",
        "choice.count",
        "stop_sequences",
        "encoding_formats",
    )
)
NOT_A_PARAMETER = ("model", "messages", "input", "prompt", "stream", "stream_options", "tools", "user", "metadata")
"""Of the parameters that OpenInference and Langfuse log in one JSON text, those that are not a version of anything."""

CONTENT = (
    "gen_ai.input.messages",
    "gen_ai.output.messages",
    "gen_ai.system_instructions",
    "gen_ai.tool.",
    "gen_ai.prompt",
    "gen_ai.completion",
    "gen_ai.evaluation.",
    "gen_ai.openai.api_base",
    "input.",
    "output.",
    "llm.",
    "embedding.",
    "retrieval.",
    "reranker.",
    "document.",
    "tool.",
    "tool_call.",
    "annotation",
    "evaluation",
    "trace.annotations",
    "trace.evaluations",
    "session.annotations",
    "session.evaluations",
    "metadata",
    "tag.",
    "langfuse.",
    "openinference.",
    "traceloop.",
    "exception.",
    "abtest.",
    "url.",
    "ai.",
)
"""Beginnings of names that carry what people wrote, or what columns hold already: never copied to `attributes`."""

TEXT_LIMIT = 256
"""Longer text is content, not a label."""

MAPPED = frozenset(
    {
        *(name for names in CONTEXT.values() for name in names),
        *PARAMETERS,
        *MODEL,
        *MODEL_VERSION,
        *PROVIDER,
        *RESPONSE_ID,
        *FINGERPRINT,
        *FINISH,
        *STREAM,
        *STATUS,
        *ERROR,
        *INPUT_TOKENS,
        *OUTPUT_TOKENS,
        *CACHED_TOKENS,
        *REASONING_TOKENS,
        *COST,
        *FIRST_CHUNK_S,
        KIND_GENAI,
    }
)
"""Attributes that become columns; every other plain one is kept in `attributes`."""
