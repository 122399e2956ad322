-- $control = "baseline"
-- $units = 200
-- The moment when control's n-th unit was seen for the first time; no row when there are fewer.
select first_us
from (
  select unit_id, min(ts_us) as first_us, row_number() over (order by min(ts_us), unit_id) as arrival
  from request
  where arm = $control and unit_id is not null and not not_randomised
  group by unit_id
) arrivals
where arrival = $units
