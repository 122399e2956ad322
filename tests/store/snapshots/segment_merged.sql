-- $level_0 = "support"
-- $level_1 = "search"
-- $other_0 = "(other)"
-- Unit totals by level with the rare levels put together: a unit that was in several of them is one row again.
select u.unit_id, u.arm, u.stage, u.not_randomised, case when u.segment in ($level_0, $level_1) then u.segment else $other_0 end as segment,
  cast(sum(u.calls) as bigint) as calls, cast(sum(u.requests) as bigint) as requests, min(u.first_us) as first_us,
  max(u.last_us) as last_us, min(u.arrived_us) as arrived_us, max(u.last_head_us) as last_head_us,
  cast(sum(u.t0) as bigint) as t0,
  cast(sum(u.t1) as bigint) as t1,
  cast(sum(u.t2) as bigint) as t2,
  cast(sum(u.t3) as bigint) as t3,
  cast(sum(u.t4) as bigint) as t4,
  cast(sum(u.t5) as bigint) as t5,
  cast(sum(u.t6) as bigint) as t6,
  cast(sum(u.t7) as bigint) as t7,
  cast(sum(u.t8) as bigint) as t8,
  cast(sum(u.t9) as bigint) as t9,
  cast(sum(u.t10) as bigint) as t10,
  cast(sum(u.t11) as bigint) as t11,
  cast(sum(u.t12) as bigint) as t12,
  cast(sum(u.t13) as bigint) as t13
from unit_total u
group by u.unit_id, u.arm, u.stage, u.not_randomised, case when u.segment in ($level_0, $level_1) then u.segment else $other_0 end
