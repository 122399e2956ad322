-- $arm_0 = "baseline"
-- $arm_1 = "candidate"
-- First and last call and units of each stage and arm.
select stage, arm, count(distinct unit_id) as units, min(ts_us) as first_us, max(ts_us) as last_us
from request
where unit_id is not null and arm is not null and arm in ($arm_0, $arm_1)
group by stage, arm
order by stage, arm
