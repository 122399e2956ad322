-- Units by stage and arm: new ones (first seen in this stage) and returning ones.
select stage, arm, cast(sum(case when stage = first_stage then 1 else 0 end) as bigint) as new_units,
  cast(sum(case when stage > first_stage then 1 else 0 end) as bigint) as returning_units
from (
  select unit_id, arm, stage, min(stage) over (partition by unit_id) as first_stage
  from (select distinct unit_id, arm, stage from unit_step) seen
) units
group by stage, arm
order by stage, arm
