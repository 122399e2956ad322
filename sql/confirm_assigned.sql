-- Assignments since a moment: an older one says what a unit was given before the halt, not what it is given now.
select unit_id, variant, by_default, from_us, until_us
from (
{{ assigned }}
) a
where from_us >= $since
