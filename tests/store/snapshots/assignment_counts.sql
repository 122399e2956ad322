-- $arm_0 = "baseline"
-- $arm_1 = "candidate"
-- Units by stage and arm: new ones (first seen in this stage) and returning ones (an earlier stage saw them, in any arm).
select u.stage, u.arm, cast(sum(case when u.stage = f.first_stage then 1 else 0 end) as bigint) as new_units,
  cast(sum(case when u.stage > f.first_stage then 1 else 0 end) as bigint) as returning_units
from (select distinct unit_id, arm, stage from unit_step) u
join (
  select unit_id, min(stage) as first_stage
  from request
  where unit_id is not null and arm is not null and arm in ($arm_0, $arm_1) and not not_randomised
  group by unit_id
) f on f.unit_id = u.unit_id
group by u.stage, u.arm
order by u.stage, u.arm
