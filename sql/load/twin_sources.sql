-- How many sources the store has, this load included: one source alone logs no call twice.
SELECT COUNT(*) AS sources
FROM (
    SELECT f.source
    FROM file_ledger f
    UNION
    SELECT i.source
    FROM interaction i
    WHERE i.file_id >= $first
) known
