-- The rows that hang together, and whether they are one call: at most one row a source, one variant, one experiment.
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
judged AS (
    SELECT
        l.component,
        COUNT(*) = COUNT(DISTINCT a.source) AS one_a_source,
        COUNT(DISTINCT a.variant) <= 1
        AND COUNT(DISTINCT CASE WHEN a.variant IS NOT NULL THEN a.experiment_id END) <= 1 AS one_arm
    FROM labelled l
    JOIN twin_area a ON a.interaction_id = l.interaction_id
    GROUP BY l.component
)
SELECT l.interaction_id, l.component, j.one_a_source, j.one_arm
FROM labelled l
JOIN judged j ON j.component = l.component
