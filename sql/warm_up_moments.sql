-- Unit-level sums and products of every metric over the warm-up (see warm_up_histogram.sql).
with unit_sums as (
  select unit_id{{ totals }}
  from (
{{ calls }}
  ) r
  where arm = $control and unit_id is not null and not not_randomised
  group by unit_id
)
select count(*) as units{{ products }}
from unit_sums
