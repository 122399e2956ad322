-- How many answers (or scores) there are to be averaged: their common multiple makes every average a whole number.
select distinct n
from (
{{ counts }}
) seen
where n > 0
