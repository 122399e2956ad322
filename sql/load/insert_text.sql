-- Stores prompts and answers of the new interactions; they are NULL in the stage unless text is kept.
INSERT INTO interaction_text (interaction_id, prompt_text, response_text, file_id)
SELECT s.interaction_id, s.prompt_text, s.response_text, s.file_id
FROM load_interaction s
WHERE
    (s.prompt_text IS NOT NULL OR s.response_text IS NOT NULL)
    AND NOT EXISTS (SELECT 1 FROM load_known k WHERE k.pos = s.rowid)
