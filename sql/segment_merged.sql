-- Unit totals by level with the rare levels put together: a unit that was in several of them is one row again.
select u.unit_id, u.arm, u.stage, u.not_randomised, case when u.segment in ({{ levels }}) then u.segment else {{ other }} end as segment,
  cast(sum(u.calls) as bigint) as calls, cast(sum(u.requests) as bigint) as requests, min(u.first_us) as first_us,
  max(u.last_us) as last_us, min(u.arrived_us) as arrived_us, max(u.last_head_us) as last_head_us{{ totals }}
from unit_total u
group by u.unit_id, u.arm, u.stage, u.not_randomised, case when u.segment in ({{ levels }}) then u.segment else {{ other }} end
