-- How many legs there are among the rows that were looked at, now against before.
SELECT
    (SELECT COUNT(*) FROM twin_leg)
    - (
        SELECT COUNT(*)
        FROM twin t
        WHERE t.until_file = $open AND t.leg_request IS NOT NULL AND t.interaction_id IN (SELECT r.interaction_id FROM leg_row r)
    ) AS more
