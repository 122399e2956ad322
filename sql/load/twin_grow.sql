-- Widens the area by what is tied to it: the same id within the window, or a member of the same call so far. Rows of a
-- crowd are no calls that could be meant, so they are left out, unless it is this load that made it a crowd.
INSERT INTO twin_area
SELECT n.*
FROM twin_near n
WHERE
    n.interaction_id NOT IN (SELECT a.interaction_id FROM twin_area a)
    AND n.interaction_id IN (
        SELECT other.interaction_id
        FROM twin_key other
        JOIN twin_key own
            ON own.kind = other.kind AND own.k1 = other.k1 AND own.k2 = other.k2
            AND other.ts_us BETWEEN own.ts_us - $window AND own.ts_us + $window
        JOIN twin_area a ON a.interaction_id = own.interaction_id
        WHERE other.crowd <= $crowd OR other.was <= $crowd
        UNION ALL
        SELECT other.interaction_id
        FROM twin other
        JOIN twin own ON own.merged_id = other.merged_id AND own.until_file = $open
        JOIN twin_area a ON a.interaction_id = own.interaction_id
        WHERE other.until_file = $open
    )
