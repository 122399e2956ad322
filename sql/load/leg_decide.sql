-- One round: a call is a leg if one of those it may belong to is user traffic, and user traffic if all of them are legs
-- (a retry that begins while the leg of the first attempt is still running). Repeated until nothing is left to say.
INSERT INTO leg_decided
SELECT c.leg_id, SUM(CASE WHEN NOT d.is_leg THEN 1 ELSE 0 END) > 0 AS is_leg
FROM leg_pair c
LEFT JOIN leg_decided d ON d.interaction_id = c.primary_id
WHERE c.leg_id NOT IN (SELECT s.interaction_id FROM leg_decided s)
GROUP BY c.leg_id
HAVING
    SUM(CASE WHEN NOT d.is_leg THEN 1 ELSE 0 END) > 0
    OR COUNT(*) = COUNT(d.interaction_id)
