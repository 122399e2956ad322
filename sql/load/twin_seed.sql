-- Where the search for calls that were logged twice begins: the interactions of this load, or of a part of it, that carry an
-- id of the call. $first: the first file of the load. A cached answer repeats the provider's id, so that it is none there.
CREATE OR REPLACE TEMP TABLE twin_area AS
SELECT
    i.interaction_id, i.ts_us, i.source, i.unit_id, i.experiment_id, i.variant,
    CASE WHEN i.cache_hit THEN NULL ELSE i.provider_response_id END AS response_id, i.trace_id, i.span_id, TRUE AS is_new,
    CASE WHEN i.latency_ms < 1e9 THEN CAST(i.ts_us + FLOOR(i.latency_ms * 1000) AS BIGINT) END AS end_us
FROM interaction i
WHERE
    i.file_id >= $first
    AND i.ts_us BETWEEN $low AND $high
    AND (i.provider_response_id IS NOT NULL OR (i.trace_id IS NOT NULL AND i.span_id IS NOT NULL))
