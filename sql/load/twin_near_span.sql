-- Adds to twin_near the interactions with a trace and span of the area; see twin_near_response.
INSERT INTO twin_near
SELECT
    i.interaction_id, i.ts_us, i.source, i.unit_id, i.experiment_id, i.variant,
    CASE WHEN i.cache_hit THEN NULL ELSE i.provider_response_id END AS response_id, i.trace_id, i.span_id,
    i.file_id >= $first AS is_new,
    CASE WHEN i.latency_ms < 1e9 THEN CAST(i.ts_us + FLOOR(i.latency_ms * 1000) AS BIGINT) END AS end_us
FROM interaction i
WHERE
    i.ts_us BETWEEN $low AND $high
    AND EXISTS (SELECT 1 FROM twin_asked q WHERE q.kind = 2 AND q.k1 = i.trace_id AND q.k2 = i.span_id)
    AND i.interaction_id NOT IN (SELECT n.interaction_id FROM twin_near n)
