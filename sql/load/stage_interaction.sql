-- Reads validated interactions, in the order of their lines. Keys with an underscore are the loader's: "_s" and "_n"
-- place and size of the record in the spool, "_f" file, "_l" line, "_o" byte offset, "_x" source, "_t" time, "_a"
-- sorted attributes. Plain lines of a large file (load_gate.py) come as they are; they are all of $file_id and $source.
CREATE OR REPLACE TEMP TABLE load_interaction AS
SELECT
    "_s" AS place, "_n" AS size, COALESCE("_f", $file_id) AS file_id, "_l" AS line, "_o" AS byte_offset,
    COALESCE("_x", $source) AS source, interaction_id,
    COALESCE("_t", EPOCH_US(CAST(UPPER(ts) AS TIMESTAMPTZ))) AS ts_us, model, unit_id, experiment_id, variant,
    request_id, COALESCE(exposed, TRUE) AS exposed, COALESCE(turn, 1) AS turn, session_id, trace_id, span_id,
    provider_response_id, surface, environment, operation, provider, model_version, prompt_name, prompt_version,
    prompt_sha256, embedding_model_version, index_id, ruleset_version, latency_ms, ttft_ms, input_tokens,
    cached_input_tokens, output_tokens, reasoning_tokens, cost_usd, finish_reason, refused, format_ok,
    COALESCE(is_error, FALSE) AS is_error, stream, params_sha256, tools_sha256, system_fingerprint, repeat,
    error_type, http_status, cache_hit, attempt,
    COALESCE(response_chars, LENGTH(response_text)) AS response_chars,
    CAST(COALESCE("_a", CASE WHEN attributes <> '{}' THEN attributes END) AS VARCHAR) AS attributes,
    CASE WHEN $keep_text THEN prompt_text END AS prompt_text,
    CASE WHEN $keep_text THEN response_text END AS response_text
FROM read_json(
    $spool, format = 'newline_delimited', auto_detect = FALSE, maximum_object_size = $longest,
    columns = {
        '_s': 'BIGINT', '_n': 'BIGINT', '_f': 'BIGINT', '_l': 'BIGINT', '_o': 'BIGINT', '_x': 'VARCHAR',
        '_t': 'BIGINT', '_a': 'JSON', 'ts': 'VARCHAR', 'attributes': 'JSON', 'interaction_id': 'VARCHAR',
        'model': 'VARCHAR', 'unit_id': 'VARCHAR',
        'experiment_id': 'VARCHAR', 'variant': 'VARCHAR', 'request_id': 'VARCHAR', 'exposed': 'BOOLEAN',
        'turn': 'INTEGER', 'session_id': 'VARCHAR', 'trace_id': 'VARCHAR', 'span_id': 'VARCHAR',
        'provider_response_id': 'VARCHAR', 'surface': 'VARCHAR', 'environment': 'VARCHAR', 'operation': 'VARCHAR',
        'provider': 'VARCHAR', 'model_version': 'VARCHAR', 'prompt_name': 'VARCHAR', 'prompt_version': 'VARCHAR',
        'prompt_sha256': 'VARCHAR', 'embedding_model_version': 'VARCHAR', 'index_id': 'VARCHAR',
        'ruleset_version': 'VARCHAR', 'latency_ms': 'DOUBLE', 'ttft_ms': 'DOUBLE', 'input_tokens': 'BIGINT',
        'cached_input_tokens': 'BIGINT', 'output_tokens': 'BIGINT', 'reasoning_tokens': 'BIGINT',
        'cost_usd': 'DOUBLE', 'finish_reason': 'VARCHAR', 'refused': 'BOOLEAN', 'format_ok': 'BOOLEAN',
        'is_error': 'BOOLEAN', 'stream': 'BOOLEAN', 'params_sha256': 'VARCHAR', 'tools_sha256': 'VARCHAR',
        'system_fingerprint': 'VARCHAR', 'repeat': 'BIGINT', 'error_type': 'VARCHAR', 'http_status': 'INTEGER',
        'cache_hit': 'BOOLEAN', 'attempt': 'INTEGER', 'response_chars': 'BIGINT', 'prompt_text': 'VARCHAR',
        'response_text': 'VARCHAR'
    }
)
