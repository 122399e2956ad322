-- Stores the staged interactions that are new.
INSERT INTO interaction (
    interaction_id, ts_us, model, unit_id, experiment_id, variant, request_id, exposed, turn, session_id, trace_id,
    span_id, provider_response_id, surface, environment, operation, provider, model_version, prompt_name,
    prompt_version, prompt_sha256, embedding_model_version, index_id, ruleset_version, latency_ms, ttft_ms,
    input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_usd, finish_reason, refused, format_ok,
    is_error, stream, params_sha256, tools_sha256, system_fingerprint, repeat, error_type, http_status, cache_hit,
    attempt, response_chars, attributes, source, file_id
)
SELECT
    s.interaction_id, s.ts_us, s.model, s.unit_id, s.experiment_id, s.variant, s.request_id, s.exposed, s.turn,
    s.session_id, s.trace_id, s.span_id, s.provider_response_id, s.surface, s.environment, s.operation, s.provider,
    s.model_version, s.prompt_name, s.prompt_version, s.prompt_sha256, s.embedding_model_version, s.index_id,
    s.ruleset_version, s.latency_ms, s.ttft_ms, s.input_tokens, s.cached_input_tokens, s.output_tokens,
    s.reasoning_tokens, s.cost_usd, s.finish_reason, s.refused, s.format_ok, s.is_error, s.stream, s.params_sha256,
    s.tools_sha256, s.system_fingerprint, s.repeat, s.error_type, s.http_status, s.cache_hit, s.attempt,
    s.response_chars, s.attributes, s.source, s.file_id
FROM load_interaction s
WHERE NOT EXISTS (SELECT 1 FROM load_known k WHERE k.pos = s.rowid)
