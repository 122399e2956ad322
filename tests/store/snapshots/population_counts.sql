-- $arm_0 = "baseline"
-- $arm_1 = "candidate"
-- What happened to the rows of the population: resolved, without a unit, without an arm, in an arm the spec does not name,
-- not randomised; and the first and last moment.
select count(*) as calls,
  cast(coalesce(sum(case when unit_id is null then 1 else 0 end), 0) as bigint) as no_unit,
  cast(coalesce(sum(case when unit_id is not null and arm is null then 1 else 0 end), 0) as bigint) as no_arm,
  cast(coalesce(sum(case when unit_id is not null and arm is not null and arm not in ($arm_0, $arm_1) then 1 else 0 end), 0) as bigint) as other_arm,
  cast(coalesce(sum(case when not_randomised then 1 else 0 end), 0) as bigint) as not_randomised,
  min(ts_us) as first_us, max(ts_us) as last_us
from request
