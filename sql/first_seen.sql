-- The hour (and stage) of every unit's first event, for units that had one.
select unit_id{{ firsts }}
from cell
where {{ any_event }}
group by unit_id
