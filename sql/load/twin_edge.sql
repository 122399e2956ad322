-- Of several rows of another source that fit, the nearest one is meant, and only if it means this one too. Rows of one
-- source that fit are all the same call.
CREATE OR REPLACE TEMP TABLE twin_edge AS
WITH ranked AS (
    SELECT
        p.id_a, p.id_b,
        ROW_NUMBER() OVER (PARTITION BY p.id_a, p.source_b ORDER BY p.strength DESC, p.apart, p.id_b) AS nth
    FROM twin_pair p
    WHERE p.same_arm AND p.source_a <> p.source_b
)
SELECT r.id_a, r.id_b, FALSE AS one_source
FROM ranked r
JOIN ranked back ON back.id_a = r.id_b AND back.id_b = r.id_a AND back.nth = 1
WHERE r.nth = 1
UNION ALL
SELECT p.id_a, p.id_b, TRUE AS one_source
FROM twin_pair p
WHERE p.same_arm AND p.source_a = p.source_b
