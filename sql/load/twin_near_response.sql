-- Adds to twin_near the interactions with a provider's id of the area. $low and $high are the times of the area, widened
-- by the window: constants, so that whole row groups are skipped. Only narrow columns are read.
INSERT INTO twin_near
SELECT
    i.interaction_id, i.ts_us, i.source, i.unit_id, i.experiment_id, i.variant,
    CASE WHEN i.cache_hit THEN NULL ELSE i.provider_response_id END AS response_id, i.trace_id, i.span_id,
    i.file_id >= $first AS is_new,
    CASE WHEN i.latency_ms < 1e9 THEN CAST(i.ts_us + FLOOR(i.latency_ms * 1000) AS BIGINT) END AS end_us
FROM interaction i
WHERE
    i.ts_us BETWEEN $low AND $high
    AND i.provider_response_id IN (SELECT q.k1 FROM twin_asked q WHERE q.kind = 1)
    AND i.cache_hit IS DISTINCT FROM TRUE
    AND i.interaction_id NOT IN (SELECT n.interaction_id FROM twin_near n)
