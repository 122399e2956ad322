-- $arm_0 = "baseline"
-- $arm_1 = "candidate"
-- Units by stage and arm: new ones (first seen in this stage) and returning ones (an earlier stage saw them, in any arm).
select c.stage, c.arm, cast(sum(case when c.stage = f.first_stage then 1 else 0 end) as bigint) as new_units,
  cast(sum(case when c.stage > f.first_stage then 1 else 0 end) as bigint) as returning_units
from cell c
join (
  select unit_id, min(stage) as first_stage
  from unit_total
  where not not_randomised and arm in ($arm_0, $arm_1)
  group by unit_id
) f on f.unit_id = c.unit_id
group by c.stage, c.arm
