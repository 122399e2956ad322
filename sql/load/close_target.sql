-- What an open score meant until this load, when it means something else now, or cannot tell any more.
UPDATE score_target
SET until_file = $file_id
WHERE
    until_file = $open
    AND score_id IN (SELECT o.score_id FROM load_open o)
    AND NOT EXISTS (
        SELECT 1 FROM load_found f
        WHERE f.score_id = score_target.score_id AND f.interaction_id = score_target.interaction_id
    )
