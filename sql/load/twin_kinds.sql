-- Which kinds of ids are asked for, and whether there are calls of several rows at all.
SELECT
    EXISTS (SELECT 1 FROM twin_asked q WHERE q.kind = 1) AS response, EXISTS (SELECT 1 FROM twin_asked q WHERE q.kind = 2) AS span,
    EXISTS (SELECT 1 FROM twin) AS member, (SELECT MIN(a.ts_us) FROM twin_area a) AS low, (SELECT MAX(a.ts_us) FROM twin_area a) AS high
