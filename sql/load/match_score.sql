-- Which staged scores are stored already: the same id and the same time of update.
CREATE OR REPLACE TEMP TABLE load_match AS
SELECT t.rowid AS row_id, t.score_id, t.updated_us
FROM score t
WHERE EXISTS (
    SELECT 1 FROM load_score l
    WHERE l.score_id = t.score_id AND l.updated_us IS NOT DISTINCT FROM t.updated_us
)
