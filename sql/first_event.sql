-- One row per arm, stage and hour: units whose first event of the whole experiment fell there. A unit counts once, in the
-- stage of its first event.
select arm, stage, cast(floor(at_us / $grid) as bigint) as bucket{{ counts }}
from (
{{ events }}
) e
group by arm, stage, cast(floor(at_us / $grid) as bigint)
