-- Members that changed sides belong to their old call until this load.
UPDATE twin
SET until_file = $file_id
WHERE until_file = $open AND interaction_id IN (SELECT c.interaction_id FROM twin_changed c WHERE c.old_id IS NOT NULL)
