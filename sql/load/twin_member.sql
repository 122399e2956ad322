-- The whole rows of the members of the calls that changed: the only wide read, and only around the times of the area.
CREATE OR REPLACE TEMP TABLE twin_member AS
SELECT g.merged_id, g.nth, g.leg_request, i.*
FROM interaction i
JOIN twin_group g ON g.interaction_id = i.interaction_id
WHERE
    i.ts_us BETWEEN $low AND $high
    AND g.merged_id IN (SELECT c.new_id FROM twin_changed c UNION ALL SELECT c.old_id FROM twin_changed c)
