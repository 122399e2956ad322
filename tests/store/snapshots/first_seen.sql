-- The hour (and stage) of every unit's first event, for units that had one.
select unit_id,
  min(cast(floor(f0 / 3600000000) as bigint) * 1000 + stage) as f0,
  min(cast(floor(f1 / 3600000000) as bigint) * 1000 + stage) as f1
from cell
where f0 is not null or f1 is not null
group by unit_id
