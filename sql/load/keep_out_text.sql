-- Prompts and answers of this load whose interaction was kept out.
DELETE FROM interaction_text
WHERE file_id >= $first AND interaction_id NOT IN (SELECT i.interaction_id FROM interaction i WHERE i.file_id >= $first)
