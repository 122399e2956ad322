-- What the open scores mean since this load, where it is news.
INSERT INTO score_target (score_id, interaction_id, file_id, until_file)
SELECT f.score_id, f.interaction_id, $file_id, $open
FROM load_found f
WHERE NOT EXISTS (SELECT 1 FROM score_target t WHERE t.score_id = f.score_id AND t.until_file = $open)
