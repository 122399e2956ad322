-- One row a call out of the rows of its members. A column is the first one known in the order of twin_group, except:
-- the earliest time and the longest latency (the outermost observer), seen only if nobody says unseen and no row is a silent
-- leg (which shares its primary's request), an error if anybody saw one, the highest turn (1 is also said by those who
-- cannot tell), and attributes of all, the most believed on top.
INSERT INTO merged_interaction (
    interaction_id, ts_us, model, unit_id, experiment_id, variant, request_id, exposed, turn, session_id, trace_id,
    span_id, provider_response_id, surface, environment, operation, provider, model_version, prompt_name,
    prompt_version, prompt_sha256, embedding_model_version, index_id, ruleset_version, latency_ms, ttft_ms,
    input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_usd, finish_reason, refused, format_ok,
    is_error, stream, params_sha256, tools_sha256, system_fingerprint, repeat, error_type, http_status, cache_hit,
    attempt, response_chars, attributes, source, file_id, until_file
)
WITH RECURSIVE folded AS (
    SELECT m.merged_id, m.nth, m.attributes
    FROM twin_member m
    WHERE m.nth = 1
    UNION ALL
    SELECT
        f.merged_id, m.nth,
        CASE
            WHEN m.attributes IS NULL THEN f.attributes
            WHEN f.attributes IS NULL THEN m.attributes
            ELSE CAST(json_merge_patch(m.attributes, f.attributes) AS VARCHAR)
        END AS attributes
    FROM folded f
    JOIN twin_member m ON m.merged_id = f.merged_id AND m.nth = f.nth + 1
),
whole AS (
    SELECT
        i.merged_id, i.nth, COUNT(*) OVER (PARTITION BY i.merged_id) AS members,
        MIN(i.ts_us) OVER call_all AS ts_us, FIRST_VALUE(i.model IGNORE NULLS) OVER call_all AS model,
        FIRST_VALUE(i.unit_id IGNORE NULLS) OVER call_all AS unit_id,
        FIRST_VALUE(i.experiment_id IGNORE NULLS) OVER call_all AS experiment_id,
        FIRST_VALUE(i.variant IGNORE NULLS) OVER call_all AS variant,
        COALESCE(MIN(i.leg_request) OVER call_all, FIRST_VALUE(i.request_id IGNORE NULLS) OVER call_all) AS request_id,
        MIN(CASE WHEN i.exposed AND i.leg_request IS NULL THEN 1 ELSE 0 END) OVER call_all = 1 AS exposed, MAX(i.turn) OVER call_all AS turn,
        FIRST_VALUE(i.session_id IGNORE NULLS) OVER call_all AS session_id,
        FIRST_VALUE(i.trace_id IGNORE NULLS) OVER call_all AS trace_id,
        FIRST_VALUE(i.span_id IGNORE NULLS) OVER call_all AS span_id,
        FIRST_VALUE(i.provider_response_id IGNORE NULLS) OVER call_all AS provider_response_id,
        FIRST_VALUE(i.surface IGNORE NULLS) OVER call_all AS surface,
        FIRST_VALUE(i.environment IGNORE NULLS) OVER call_all AS environment,
        FIRST_VALUE(i.operation IGNORE NULLS) OVER call_all AS operation,
        FIRST_VALUE(i.provider IGNORE NULLS) OVER call_all AS provider,
        FIRST_VALUE(i.model_version IGNORE NULLS) OVER call_all AS model_version,
        FIRST_VALUE(i.prompt_name IGNORE NULLS) OVER call_all AS prompt_name,
        FIRST_VALUE(i.prompt_version IGNORE NULLS) OVER call_all AS prompt_version,
        FIRST_VALUE(i.prompt_sha256 IGNORE NULLS) OVER call_all AS prompt_sha256,
        FIRST_VALUE(i.embedding_model_version IGNORE NULLS) OVER call_all AS embedding_model_version,
        FIRST_VALUE(i.index_id IGNORE NULLS) OVER call_all AS index_id,
        FIRST_VALUE(i.ruleset_version IGNORE NULLS) OVER call_all AS ruleset_version,
        MAX(i.latency_ms) OVER call_all AS latency_ms, MAX(i.ttft_ms) OVER call_all AS ttft_ms,
        FIRST_VALUE(i.input_tokens IGNORE NULLS) OVER call_all AS input_tokens,
        FIRST_VALUE(i.cached_input_tokens IGNORE NULLS) OVER call_all AS cached_input_tokens,
        FIRST_VALUE(i.output_tokens IGNORE NULLS) OVER call_all AS output_tokens,
        FIRST_VALUE(i.reasoning_tokens IGNORE NULLS) OVER call_all AS reasoning_tokens,
        FIRST_VALUE(i.cost_usd IGNORE NULLS) OVER call_all AS cost_usd,
        FIRST_VALUE(i.finish_reason IGNORE NULLS) OVER call_all AS finish_reason,
        FIRST_VALUE(i.refused IGNORE NULLS) OVER call_all AS refused,
        FIRST_VALUE(i.format_ok IGNORE NULLS) OVER call_all AS format_ok,
        MAX(CASE WHEN i.is_error THEN 1 ELSE 0 END) OVER call_all = 1 AS is_error,
        FIRST_VALUE(i.stream IGNORE NULLS) OVER call_all AS stream,
        FIRST_VALUE(i.params_sha256 IGNORE NULLS) OVER call_all AS params_sha256,
        FIRST_VALUE(i.tools_sha256 IGNORE NULLS) OVER call_all AS tools_sha256,
        FIRST_VALUE(i.system_fingerprint IGNORE NULLS) OVER call_all AS system_fingerprint,
        FIRST_VALUE(i.repeat IGNORE NULLS) OVER call_all AS repeat,
        FIRST_VALUE(i.error_type IGNORE NULLS) OVER call_all AS error_type,
        FIRST_VALUE(i.http_status IGNORE NULLS) OVER call_all AS http_status,
        FIRST_VALUE(i.cache_hit IGNORE NULLS) OVER call_all AS cache_hit,
        FIRST_VALUE(i.attempt IGNORE NULLS) OVER call_all AS attempt,
        FIRST_VALUE(i.response_chars IGNORE NULLS) OVER call_all AS response_chars,
        i.source
    FROM twin_member i
    WINDOW call_all AS (
        PARTITION BY i.merged_id
        ORDER BY i.nth
        ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
    )
)
SELECT
    w.merged_id, w.ts_us, w.model, w.unit_id, w.experiment_id, w.variant, w.request_id, w.exposed, w.turn,
    w.session_id, w.trace_id, w.span_id, w.provider_response_id, w.surface, w.environment, w.operation, w.provider,
    w.model_version, w.prompt_name, w.prompt_version, w.prompt_sha256, w.embedding_model_version, w.index_id,
    w.ruleset_version, w.latency_ms, w.ttft_ms, w.input_tokens, w.cached_input_tokens, w.output_tokens,
    w.reasoning_tokens, w.cost_usd, w.finish_reason, w.refused, w.format_ok, w.is_error, w.stream, w.params_sha256,
    w.tools_sha256, w.system_fingerprint, w.repeat, w.error_type, w.http_status, w.cache_hit, w.attempt,
    w.response_chars, f.attributes, w.source, $file_id, $open
FROM whole w
JOIN folded f ON f.merged_id = w.merged_id AND f.nth = w.members
WHERE w.nth = 1
