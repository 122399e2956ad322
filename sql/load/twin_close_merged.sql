-- The merged rows of calls that gained or lost a member hold until this load.
UPDATE merged_interaction
SET until_file = $file_id
WHERE
    until_file = $open
    AND interaction_id IN (SELECT c.old_id FROM twin_changed c UNION ALL SELECT c.new_id FROM twin_changed c)
