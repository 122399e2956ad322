-- Members of calls since this load.
INSERT INTO twin (interaction_id, merged_id, file_id, until_file)
SELECT c.interaction_id, c.new_id, $file_id, $open
FROM twin_changed c
WHERE c.new_id IS NOT NULL
