-- How many assignments before a time are in force after it: their units have later calls that name no variant.
SELECT COUNT(*) AS assignments
FROM (
    SELECT a.experiment_id, a.unit_id
    FROM assignment a
    WHERE a.ts_us < $before
    GROUP BY a.experiment_id, a.unit_id
) old
WHERE old.unit_id IN (SELECT i.unit_id FROM interaction i WHERE i.ts_us >= $before AND i.variant IS NULL)
