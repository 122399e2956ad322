-- The rows that hang together, and whether they are one call: one variant, one experiment, and of several rows of one
-- source each a pair with each.
CREATE OR REPLACE TEMP TABLE twin_component AS
WITH RECURSIVE reach AS (
    SELECT e.id_a, e.id_b
    FROM twin_edge e
    UNION
    SELECT r.id_a, e.id_b
    FROM reach r
    JOIN twin_edge e ON e.id_a = r.id_b
),
labelled AS (
    SELECT r.id_a AS interaction_id, MIN(LEAST(r.id_a, r.id_b)) AS component
    FROM reach r
    GROUP BY r.id_a
),
logged AS (
    SELECT l.component, a.source, COUNT(*) AS members
    FROM labelled l
    JOIN twin_area a ON a.interaction_id = l.interaction_id
    GROUP BY l.component, a.source
),
needed AS (
    SELECT g.component, SUM(g.members * (g.members - 1)) AS pairs
    FROM logged g
    GROUP BY g.component
),
paired AS (
    SELECT l.component, COUNT(*) AS pairs
    FROM labelled l
    JOIN twin_edge e ON e.id_a = l.interaction_id AND e.one_source
    GROUP BY l.component
),
judged AS (
    SELECT
        l.component,
        COUNT(DISTINCT a.variant) <= 1
        AND COUNT(DISTINCT CASE WHEN a.variant IS NOT NULL THEN a.experiment_id END) <= 1 AS one_arm
    FROM labelled l
    JOIN twin_area a ON a.interaction_id = l.interaction_id
    GROUP BY l.component
)
SELECT l.interaction_id, l.component, n.pairs = COALESCE(p.pairs, 0) AS one_a_source, j.one_arm
FROM labelled l
JOIN judged j ON j.component = l.component
JOIN needed n ON n.component = l.component
LEFT JOIN paired p ON p.component = l.component
