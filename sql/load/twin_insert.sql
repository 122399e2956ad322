-- Members of calls since this load.
INSERT INTO twin (interaction_id, merged_id, file_id, until_file, leg_request)
SELECT c.interaction_id, c.new_id, $file_id, $open, c.leg_request
FROM twin_changed c
WHERE c.new_id IS NOT NULL
