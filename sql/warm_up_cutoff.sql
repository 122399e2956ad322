-- The moments when control's first units were seen for the first time, up to a moment; the n-th is the end of the warm-up.
select first_us, count(*) as units
from (
  select unit_id, min(ts_us) as first_us
  from (
{{ calls }}
  ) r
  where arm = $control and unit_id is not null and not not_randomised
  group by unit_id
) arrivals
group by first_us
