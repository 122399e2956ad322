-- The surest key that means exactly one call; no row for a score that has none.
CREATE OR REPLACE TEMP TABLE load_found AS
SELECT c.score_id, c.interaction_id
FROM load_candidate c
JOIN (
    SELECT u.score_id, MIN(u.step) AS step
    FROM load_candidate u
    WHERE u.n = 1
    GROUP BY u.score_id
) best ON best.score_id = c.score_id AND best.step = c.step
