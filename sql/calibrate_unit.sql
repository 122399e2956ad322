-- The units of the log, numbered in the order of their names, and the number of what is randomised together with each.
select unit_id, row_number() over (order by unit_id) - 1 as unit_no, dense_rank() over (order by together) - 1 as cluster_no
from (
  select r.unit_id, coalesce(min(r.together), r.unit_id) as together
  from (
{{ calls }}
  ) r
  where r.unit_id is not null and r.arm = $control and not r.not_randomised
  group by r.unit_id
) units
