-- Takes the surest key that means exactly one interaction. $file_id: since when it is known.
INSERT INTO score_target (score_id, interaction_id, file_id)
SELECT c.score_id, c.interaction_id, $file_id
FROM load_candidate c
JOIN (
    SELECT u.score_id, MIN(u.step) AS step
    FROM load_candidate u
    WHERE u.n = 1
    GROUP BY u.score_id
) best ON best.score_id = c.score_id AND best.step = c.step
