-- $units = 30
-- When the n-th unit had its first pair.
select min(u.first_us) as cutoff_us
from (
  select first_us, row_number() over (order by first_us, unit_id) as nth
  from shadow_unit
) u
where u.nth = $units
