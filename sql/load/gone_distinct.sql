-- One row a hash, however often its unit was forgotten.
DELETE FROM forgotten
WHERE rowid NOT IN (SELECT MIN(f.rowid) FROM forgotten f GROUP BY f.kind, f.hash)
