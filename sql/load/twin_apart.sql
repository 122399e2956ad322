-- How many pairs with a row of this load share an id and are left apart.
SELECT COUNT(*) AS pairs
FROM twin_conflict c
WHERE
    c.id_a IN (SELECT i.interaction_id FROM interaction i WHERE i.file_id >= $first)
    OR c.id_b IN (SELECT i.interaction_id FROM interaction i WHERE i.file_id >= $first)
