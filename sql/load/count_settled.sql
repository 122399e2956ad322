-- How many of the open scores that have a call now had one before.
SELECT COUNT(*) AS scores
FROM load_found f
WHERE f.score_id IN (SELECT t.score_id FROM score_target t WHERE t.until_file = $open)
