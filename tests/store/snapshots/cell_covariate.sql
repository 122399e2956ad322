-- $arm_0 = "baseline"
-- $arm_1 = "candidate"
-- The rows of unit_total that are evidence: randomised, in an arm of the spec, by units that saw one arm in the stage.
select u.unit_id, u.arm, u.stage, u.calls, u.requests, u.arrived_us,
  u.t0 as t0,
  u.t1 as t1,
  u.t2 as t2,
  u.t3 as t3,
  coalesce(h.c0, 0) as c0,
  coalesce(h.d0, 0) as d0,
  coalesce(h.c3, 0) as c3,
  coalesce(h.d3, 0) as d3
from unit_total u
left join history h on h.past_unit = u.unit_id
where not u.not_randomised and u.arm in ($arm_0, $arm_1)
  and not exists (select 1 from contaminated d where d.unit_id = u.unit_id and d.stage = u.stage)
