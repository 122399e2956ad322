-- The ids by which the calls of the area can be found elsewhere. kind 1: the provider's id; kind 2: trace and span.
CREATE OR REPLACE TEMP TABLE twin_asked AS
SELECT DISTINCT 1 AS kind, a.response_id AS k1, '' AS k2
FROM twin_area a
WHERE a.response_id IS NOT NULL
UNION ALL
SELECT DISTINCT 2 AS kind, a.trace_id AS k1, a.span_id AS k2
FROM twin_area a
WHERE a.trace_id IS NOT NULL AND a.span_id IS NOT NULL
