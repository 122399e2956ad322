-- How many answers (or scores) there are to be averaged: their common multiple makes every average a whole number.
select distinct n
from (
  select answers as n from shadow_side
  union all
  select y0 as n from shadow_answer
  union all
  select y0 as n from shadow_side
) seen
where n > 0
