-- The variants that logs name for an experiment, in calls and assignments.
select variant, count(*) as n
from (
  select variant from interaction where experiment_id = $experiment and variant is not null
  union all
  select variant from assignment where experiment_id = $experiment
) named
group by variant
order by n desc, variant
