-- The legs, each with the request that it shares with its primary: the one that both name, else the nearest primary.
CREATE OR REPLACE TEMP TABLE twin_leg AS
SELECT n.leg_id AS interaction_id, n.leg_request
FROM (
    SELECT
        c.leg_id, c.leg_request, ROW_NUMBER() OVER (PARTITION BY c.leg_id ORDER BY c.apart, c.primary_id) AS nth
    FROM leg_pair c
    JOIN leg_decided d ON d.interaction_id = c.primary_id AND NOT d.is_leg
    JOIN leg_decided x ON x.interaction_id = c.leg_id AND x.is_leg
) n
WHERE n.nth = 1
