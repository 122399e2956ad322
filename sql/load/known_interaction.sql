-- The staged interactions that are not new: stored already (load_match), or a repeat of an earlier line of the load.
-- differs: the columns in which such a row disagrees with the one that counts; empty for a plain duplicate.
CREATE OR REPLACE TEMP TABLE load_known AS
WITH repeated AS (
    SELECT interaction_id, MIN(rowid) AS pos
    FROM load_interaction
    GROUP BY interaction_id
    HAVING COUNT(*) > 1
),
counts AS (
    SELECT
        CAST(-1 AS BIGINT) AS pos,
        t.interaction_id, t.ts_us, t.model, t.unit_id, t.experiment_id, t.variant, t.request_id, t.exposed, t.turn,
        t.session_id, t.trace_id, t.span_id, t.provider_response_id, t.surface, t.environment, t.operation,
        t.provider, t.model_version, t.prompt_name, t.prompt_version, t.prompt_sha256, t.embedding_model_version,
        t.index_id, t.ruleset_version, t.latency_ms, t.ttft_ms, t.input_tokens, t.cached_input_tokens,
        t.output_tokens, t.reasoning_tokens, t.cost_usd, t.finish_reason, t.refused, t.format_ok, t.is_error,
        t.stream, t.params_sha256, t.tools_sha256, t.system_fingerprint, t.repeat, t.error_type, t.http_status,
        t.cache_hit, t.attempt, t.response_chars, t.attributes
    FROM interaction t
    JOIN load_match m ON m.row_id = t.rowid
    UNION ALL
    SELECT
        l.rowid AS pos,
        l.interaction_id, l.ts_us, l.model, l.unit_id, l.experiment_id, l.variant, l.request_id, l.exposed, l.turn,
        l.session_id, l.trace_id, l.span_id, l.provider_response_id, l.surface, l.environment, l.operation,
        l.provider, l.model_version, l.prompt_name, l.prompt_version, l.prompt_sha256, l.embedding_model_version,
        l.index_id, l.ruleset_version, l.latency_ms, l.ttft_ms, l.input_tokens, l.cached_input_tokens,
        l.output_tokens, l.reasoning_tokens, l.cost_usd, l.finish_reason, l.refused, l.format_ok, l.is_error,
        l.stream, l.params_sha256, l.tools_sha256, l.system_fingerprint, l.repeat, l.error_type, l.http_status,
        l.cache_hit, l.attempt, l.response_chars, l.attributes
    FROM load_interaction l
    JOIN repeated r ON r.pos = l.rowid
    WHERE NOT EXISTS (
        SELECT 1 FROM load_match m
        WHERE m.interaction_id = l.interaction_id
    )
)
SELECT
    s.rowid AS pos, s.place, s.size, s.file_id, s.line, s.byte_offset, s.source,
    CONCAT_WS(
        ', ',
        CASE WHEN s.ts_us IS DISTINCT FROM c.ts_us THEN 'ts' END,
        CASE WHEN s.model IS DISTINCT FROM c.model THEN 'model' END,
        CASE WHEN s.unit_id IS DISTINCT FROM c.unit_id THEN 'unit_id' END,
        CASE WHEN s.experiment_id IS DISTINCT FROM c.experiment_id THEN 'experiment_id' END,
        CASE WHEN s.variant IS DISTINCT FROM c.variant THEN 'variant' END,
        CASE WHEN s.request_id IS DISTINCT FROM c.request_id THEN 'request_id' END,
        CASE WHEN s.exposed IS DISTINCT FROM c.exposed THEN 'exposed' END,
        CASE WHEN s.turn IS DISTINCT FROM c.turn THEN 'turn' END,
        CASE WHEN s.session_id IS DISTINCT FROM c.session_id THEN 'session_id' END,
        CASE WHEN s.trace_id IS DISTINCT FROM c.trace_id THEN 'trace_id' END,
        CASE WHEN s.span_id IS DISTINCT FROM c.span_id THEN 'span_id' END,
        CASE WHEN s.provider_response_id IS DISTINCT FROM c.provider_response_id THEN 'provider_response_id' END,
        CASE WHEN s.surface IS DISTINCT FROM c.surface THEN 'surface' END,
        CASE WHEN s.environment IS DISTINCT FROM c.environment THEN 'environment' END,
        CASE WHEN s.operation IS DISTINCT FROM c.operation THEN 'operation' END,
        CASE WHEN s.provider IS DISTINCT FROM c.provider THEN 'provider' END,
        CASE WHEN s.model_version IS DISTINCT FROM c.model_version THEN 'model_version' END,
        CASE WHEN s.prompt_name IS DISTINCT FROM c.prompt_name THEN 'prompt_name' END,
        CASE WHEN s.prompt_version IS DISTINCT FROM c.prompt_version THEN 'prompt_version' END,
        CASE WHEN s.prompt_sha256 IS DISTINCT FROM c.prompt_sha256 THEN 'prompt_sha256' END,
        CASE
            WHEN s.embedding_model_version IS DISTINCT FROM c.embedding_model_version THEN 'embedding_model_version'
        END,
        CASE WHEN s.index_id IS DISTINCT FROM c.index_id THEN 'index_id' END,
        CASE WHEN s.ruleset_version IS DISTINCT FROM c.ruleset_version THEN 'ruleset_version' END,
        CASE WHEN s.latency_ms IS DISTINCT FROM c.latency_ms THEN 'latency_ms' END,
        CASE WHEN s.ttft_ms IS DISTINCT FROM c.ttft_ms THEN 'ttft_ms' END,
        CASE WHEN s.input_tokens IS DISTINCT FROM c.input_tokens THEN 'input_tokens' END,
        CASE WHEN s.cached_input_tokens IS DISTINCT FROM c.cached_input_tokens THEN 'cached_input_tokens' END,
        CASE WHEN s.output_tokens IS DISTINCT FROM c.output_tokens THEN 'output_tokens' END,
        CASE WHEN s.reasoning_tokens IS DISTINCT FROM c.reasoning_tokens THEN 'reasoning_tokens' END,
        CASE WHEN s.cost_usd IS DISTINCT FROM c.cost_usd THEN 'cost_usd' END,
        CASE WHEN s.finish_reason IS DISTINCT FROM c.finish_reason THEN 'finish_reason' END,
        CASE WHEN s.refused IS DISTINCT FROM c.refused THEN 'refused' END,
        CASE WHEN s.format_ok IS DISTINCT FROM c.format_ok THEN 'format_ok' END,
        CASE WHEN s.is_error IS DISTINCT FROM c.is_error THEN 'is_error' END,
        CASE WHEN s.stream IS DISTINCT FROM c.stream THEN 'stream' END,
        CASE WHEN s.params_sha256 IS DISTINCT FROM c.params_sha256 THEN 'params_sha256' END,
        CASE WHEN s.tools_sha256 IS DISTINCT FROM c.tools_sha256 THEN 'tools_sha256' END,
        CASE WHEN s.system_fingerprint IS DISTINCT FROM c.system_fingerprint THEN 'system_fingerprint' END,
        CASE WHEN s.repeat IS DISTINCT FROM c.repeat THEN 'repeat' END,
        CASE WHEN s.error_type IS DISTINCT FROM c.error_type THEN 'error_type' END,
        CASE WHEN s.http_status IS DISTINCT FROM c.http_status THEN 'http_status' END,
        CASE WHEN s.cache_hit IS DISTINCT FROM c.cache_hit THEN 'cache_hit' END,
        CASE WHEN s.attempt IS DISTINCT FROM c.attempt THEN 'attempt' END,
        CASE WHEN s.response_chars IS DISTINCT FROM c.response_chars THEN 'response_chars' END,
        CASE WHEN s.attributes IS DISTINCT FROM c.attributes THEN 'attributes' END
    ) AS differs
FROM load_interaction s
JOIN counts c ON c.interaction_id = s.interaction_id
WHERE s.rowid > c.pos
