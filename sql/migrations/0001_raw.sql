-- The raw tables: what the logs say, one row a record, plus where it came from.
-- Times are microseconds since 1970 (UTC). NULL means that the log cannot tell. No primary keys: ingest is the only
-- writer and keeps the ids unique; an index would double the time and the size of a load.
-- file_id counts the loaded files; it is the ingest sequence by which a decision is replayed.

CREATE TABLE interaction (
    interaction_id VARCHAR NOT NULL,
    ts_us BIGINT NOT NULL,
    model VARCHAR NOT NULL,
    unit_id VARCHAR,
    experiment_id VARCHAR,
    variant VARCHAR,
    request_id VARCHAR,
    exposed BOOLEAN NOT NULL,
    turn INTEGER NOT NULL,
    session_id VARCHAR,
    trace_id VARCHAR,
    span_id VARCHAR,
    provider_response_id VARCHAR,
    surface VARCHAR,
    environment VARCHAR,
    operation VARCHAR,
    provider VARCHAR,
    model_version VARCHAR,
    prompt_name VARCHAR,
    prompt_version VARCHAR,
    prompt_sha256 VARCHAR,
    embedding_model_version VARCHAR,
    index_id VARCHAR,
    ruleset_version VARCHAR,
    latency_ms DOUBLE,
    ttft_ms DOUBLE,
    input_tokens BIGINT,
    cached_input_tokens BIGINT,
    output_tokens BIGINT,
    reasoning_tokens BIGINT,
    cost_usd DOUBLE,
    finish_reason VARCHAR,
    refused BOOLEAN,
    format_ok BOOLEAN,
    is_error BOOLEAN NOT NULL,
    stream BOOLEAN,
    params_sha256 VARCHAR,
    tools_sha256 VARCHAR,
    system_fingerprint VARCHAR,
    repeat BIGINT,
    error_type VARCHAR,
    http_status INTEGER,
    cache_hit BOOLEAN,
    attempt INTEGER,
    response_chars BIGINT,
    attributes VARCHAR,
    source VARCHAR NOT NULL,
    file_id BIGINT NOT NULL
);

-- Prompts and answers, only where ingest was asked to keep them.
CREATE TABLE interaction_text (
    interaction_id VARCHAR NOT NULL,
    prompt_text VARCHAR,
    response_text VARCHAR,
    file_id BIGINT NOT NULL
);

CREATE TABLE assignment (
    experiment_id VARCHAR NOT NULL,
    unit_id VARCHAR NOT NULL,
    variant VARCHAR NOT NULL,
    ts_us BIGINT NOT NULL,
    reason VARCHAR,
    ruleset_version VARCHAR,
    provider VARCHAR,
    source VARCHAR NOT NULL,
    file_id BIGINT NOT NULL
);

-- Append-only: a score with a later updated_us corrects the earlier one of the same score_id; both stay.
CREATE TABLE score (
    score_id VARCHAR NOT NULL,
    ts_us BIGINT NOT NULL,
    name VARCHAR NOT NULL,
    scorer_kind VARCHAR NOT NULL,
    value DOUBLE,
    label VARCHAR,
    scorer_id VARCHAR,
    label_probability DOUBLE,
    updated_us BIGINT,
    interaction_id VARCHAR,
    request_id VARCHAR,
    variant VARCHAR,
    trace_id VARCHAR,
    span_id VARCHAR,
    provider_response_id VARCHAR,
    explanation VARCHAR,
    error_type VARCHAR,
    source VARCHAR NOT NULL,
    file_id BIGINT NOT NULL
);

-- Which interaction a score belongs to, found at ingest; file_id says since when it is known.
CREATE TABLE score_target (
    score_id VARCHAR NOT NULL,
    interaction_id VARCHAR NOT NULL,
    file_id BIGINT NOT NULL
);

-- Lines and records that were not taken. raw: the rejected bytes, cut at 64 KB. reason: a short code. at_us: when.
CREATE TABLE quarantine (
    quarantine_id BIGINT NOT NULL,
    file_id BIGINT NOT NULL,
    path VARCHAR NOT NULL,
    line BIGINT NOT NULL,
    byte_offset BIGINT NOT NULL,
    raw BLOB,
    reason VARCHAR NOT NULL,
    detail VARCHAR,
    source VARCHAR NOT NULL,
    at_us BIGINT NOT NULL
);

-- One row a loaded file. sha256 and bytes are of the decompressed content.
-- records = inserted + duplicates + conflicts + quarantined + ignored.
CREATE TABLE file_ledger (
    file_id BIGINT NOT NULL,
    path VARCHAR NOT NULL,
    sha256 VARCHAR NOT NULL,
    bytes BIGINT NOT NULL,
    source VARCHAR NOT NULL,
    lines BIGINT NOT NULL,
    records BIGINT NOT NULL,
    inserted BIGINT NOT NULL,
    duplicates BIGINT NOT NULL,
    conflicts BIGINT NOT NULL,
    quarantined BIGINT NOT NULL,
    ignored BIGINT NOT NULL,
    ingested_us BIGINT NOT NULL
);
