-- $grid = 3600000000
-- One row per arm, stage and hour: units whose first event of the whole experiment fell there. A unit counts once, in the
-- stage of its first event.
select arm, stage, cast(floor(at_us / $grid) as bigint) as bucket,
  cast(sum(case when metric = 0 then 1 else 0 end) as bigint) as event0,
  cast(sum(case when metric = 1 then 1 else 0 end) as bigint) as event1
from (
  select c.arm, c.stage, c.f0 as at_us, 0 as metric from cell c
  join (select unit_id, min(f0) as first_us from cell where f0 is not null group by unit_id) g on g.unit_id = c.unit_id and g.first_us = c.f0
  union all
  select c.arm, c.stage, c.f1 as at_us, 1 as metric from cell c
  join (select unit_id, min(f1) as first_us from cell where f1 is not null group by unit_id) g on g.unit_id = c.unit_id and g.first_us = c.f1
) e
group by arm, stage, cast(floor(at_us / $grid) as bigint)
