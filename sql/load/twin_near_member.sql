-- Adds to twin_near the other members of the calls of the area as they are known so far; see twin_near_response.
INSERT INTO twin_near
SELECT
    i.interaction_id, i.ts_us, i.source, i.unit_id, i.experiment_id, i.variant,
    CASE WHEN i.cache_hit THEN NULL ELSE i.provider_response_id END AS response_id, i.trace_id, i.span_id,
    i.file_id >= $first AS is_new,
    CASE WHEN i.latency_ms < 1e9 THEN CAST(i.ts_us + FLOOR(i.latency_ms * 1000) AS BIGINT) END AS end_us
FROM interaction i
WHERE
    i.ts_us BETWEEN $low AND $high
    AND i.interaction_id IN (
        SELECT other.interaction_id
        FROM twin other
        JOIN twin own ON own.merged_id = other.merged_id AND own.until_file = $open
        JOIN twin_area a ON a.interaction_id = own.interaction_id
        WHERE other.until_file = $open
    )
    AND i.interaction_id NOT IN (SELECT n.interaction_id FROM twin_near n)
