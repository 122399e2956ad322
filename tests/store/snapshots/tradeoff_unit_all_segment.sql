-- $technique = "candidate"
-- $today = "baseline"
-- One row per unit and side (and level of a segment): its tasks added up.
select unit_id, side, segment,
  cast(coalesce(sum(tasks), 0) as bigint) as tasks,
  cast(coalesce(sum(cost), 0) as bigint) as cost,
  cast(coalesce(sum(solved), 0) as bigint) as solved,
  cast(coalesce(sum(flat), 0) as bigint) as flat,
  cast(coalesce(sum(x0), 0) as bigint) as x0,
  cast(coalesce(sum(y0), 0) as bigint) as y0
from (
-- The tasks of one comparison, a row per request and side (0 what runs today, 1 the technique). Paired: requests that both answered, each with
-- the other side's row beside it, so that a task counts only where both sides can tell.
select case when r.arm = $today then 0 else 1 end as side, r.unit_id as unit_id, r.request_key, r.segment0 as segment,
  case when r.cost is not null and r.y0 = 1 then 1 else 0 end as tasks,
  case when r.cost is not null and r.y0 = 1 then r.cost else 0 end as cost,
  case when r.cost is not null and r.y0 = 1 then r.x0 else 0 end as solved,
  case when r.cost is not null and r.y0 = 1 then coalesce(r.flat, r.cost) else 0 end as flat,
  case when r.y0 <> 0 then r.x0 else 0 end as x0,
  case when r.y0 <> 0 then r.y0 else 0 end as y0
from tradeoff_request r
where r.arm in ($today, $technique)
) t
where unit_id is not null
group by unit_id, side, segment
