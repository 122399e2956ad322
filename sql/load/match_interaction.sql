-- Which staged interactions are stored already. Reads one column of the big table, whatever its width.
CREATE OR REPLACE TEMP TABLE load_match AS
SELECT t.rowid AS row_id, t.interaction_id
FROM interaction t
WHERE t.interaction_id IN (SELECT l.interaction_id FROM load_interaction l)
