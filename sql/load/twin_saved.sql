-- By how many the calls of the area are fewer than their rows, now against before.
SELECT found.members - found.calls - past.members + past.calls AS saved
FROM (SELECT COUNT(*) AS members, COUNT(DISTINCT g.merged_id) AS calls FROM twin_group g) found
CROSS JOIN (
    SELECT COUNT(*) AS members, COUNT(DISTINCT t.merged_id) AS calls
    FROM twin t
    WHERE t.until_file = $open AND t.interaction_id IN (SELECT a.interaction_id FROM twin_area a)
) past
