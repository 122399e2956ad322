-- $arm_0 = "baseline"
-- $arm_1 = "candidate"
-- Units by stage, and how many of them were seen in more than one arm of it.
select stage, count(*) as units, cast(sum(case when arms > 1 then 1 else 0 end) as bigint) as contaminated
from (
  select unit_id, stage, count(distinct arm) as arms
  from request
  where unit_id is not null and arm is not null and arm in ($arm_0, $arm_1) and not not_randomised
  group by unit_id, stage
) seen
group by stage
order by stage
