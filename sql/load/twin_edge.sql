-- Of several rows of another source that fit, the nearest one is meant, and only if it means this one too.
CREATE OR REPLACE TEMP TABLE twin_edge AS
WITH ranked AS (
    SELECT
        p.id_a, p.id_b,
        ROW_NUMBER() OVER (PARTITION BY p.id_a, p.source_b ORDER BY p.strength DESC, p.apart, p.id_b) AS nth
    FROM twin_pair p
    WHERE p.same_arm
)
SELECT r.id_a, r.id_b
FROM ranked r
JOIN ranked back ON back.id_a = r.id_b AND back.id_b = r.id_a AND back.nth = 1
WHERE r.nth = 1
