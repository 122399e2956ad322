-- What is another call than it was, members that came, went, changed sides or turned out to be a leg; and the calls they are or were in.
CREATE OR REPLACE TEMP TABLE twin_changed AS
WITH old_member AS (
    SELECT t.interaction_id, t.merged_id, t.leg_request
    FROM twin t
    WHERE t.until_file = $open AND t.interaction_id IN (SELECT a.interaction_id FROM twin_area a)
)
SELECT COALESCE(o.interaction_id, g.interaction_id) AS interaction_id, o.merged_id AS old_id, g.merged_id AS new_id, g.leg_request
FROM old_member o
FULL JOIN twin_group g ON g.interaction_id = o.interaction_id
WHERE o.merged_id IS DISTINCT FROM g.merged_id OR o.leg_request IS DISTINCT FROM g.leg_request
