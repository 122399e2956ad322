-- Whether anything is known of the area: a call of several rows, a pair that was left apart, a silent leg.
SELECT
    EXISTS (SELECT 1 FROM twin t WHERE t.until_file = $open AND t.interaction_id IN (SELECT a.interaction_id FROM twin_area a))
    OR EXISTS (
        SELECT 1 FROM twin_conflict c
        WHERE
            c.id_a IN (SELECT a.interaction_id FROM twin_area a) OR c.id_b IN (SELECT a.interaction_id FROM twin_area a)
    )
    OR EXISTS (SELECT 1 FROM twin_leg l WHERE l.interaction_id IN (SELECT a.interaction_id FROM twin_area a)) AS is_known
