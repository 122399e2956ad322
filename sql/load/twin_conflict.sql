-- Pairs that share an id of the call and are left apart.
INSERT INTO twin_conflict (id_a, id_b, reason)
SELECT p.id_a, p.id_b, 'variant'
FROM twin_pair p
WHERE p.id_a < p.id_b AND NOT p.same_arm
UNION
SELECT p.id_a, p.id_b, CASE WHEN c.one_arm THEN 'source' ELSE 'variant' END
FROM twin_edge e
JOIN twin_pair p ON p.id_a = e.id_a AND p.id_b = e.id_b
JOIN twin_component c ON c.interaction_id = e.id_a
WHERE p.id_a < p.id_b AND NOT (c.one_a_source AND c.one_arm)
