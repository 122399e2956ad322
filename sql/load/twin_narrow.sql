-- In a store of one source: only what shares the provider's id with another row is searched.
DELETE FROM twin_area
WHERE response_id IS NULL OR response_id NOT IN (SELECT r.k1 FROM twin_repeated r)
