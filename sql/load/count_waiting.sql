-- Scores in the store whose interaction is not known. $open: what holds now.
SELECT COUNT(DISTINCT s.score_id) AS scores
FROM score s
WHERE NOT EXISTS (SELECT 1 FROM score_target t WHERE t.score_id = s.score_id AND t.until_file = $open)
