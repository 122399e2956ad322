-- $arm_0 = "baseline"
-- $arm_1 = "candidate"
-- The rows of unit_total that are evidence: randomised, in an arm of the spec, by units that saw one arm in the stage.
select u.unit_id, u.arm, u.stage, u.calls, u.requests, u.arrived_us,
  u.t0 as t0,
  u.t1 as t1,
  least(u.t2, 1) as t2c,
  least(u.t3, 1) as t3c,
  u.t4 as t4,
  u.t5 as t5
from unit_total u
where not u.not_randomised and u.arm in ($arm_0, $arm_1)
  and not exists (select 1 from contaminated d where d.unit_id = u.unit_id and d.stage = u.stage)
