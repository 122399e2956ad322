-- The ids of the interactions around the area, one row an id. crowd: how many rows of the same source carry it within
-- the window; an id that many calls share (a stub's "chatcmpl-123") is no id of a call. was: the same before this load.
CREATE OR REPLACE TEMP TABLE twin_key AS
WITH key AS (
    SELECT n.interaction_id, n.ts_us, n.source, n.is_new, 1 AS kind, n.response_id AS k1, '' AS k2
    FROM twin_near n
    WHERE n.response_id IS NOT NULL
    UNION ALL
    SELECT n.interaction_id, n.ts_us, n.source, n.is_new, 2 AS kind, n.trace_id AS k1, n.span_id AS k2
    FROM twin_near n
    WHERE n.trace_id IS NOT NULL AND n.span_id IS NOT NULL
)
SELECT
    k.interaction_id, k.ts_us, k.source, k.kind, k.k1, k.k2, COUNT(*) OVER around AS crowd,
    CASE WHEN k.is_new THEN NULL ELSE SUM(CASE WHEN k.is_new THEN 0 ELSE 1 END) OVER around END AS was
FROM key k
WINDOW around AS (
    PARTITION BY k.kind, k.k1, k.k2, k.source
    ORDER BY k.ts_us
    RANGE BETWEEN $window PRECEDING AND $window FOLLOWING
)
