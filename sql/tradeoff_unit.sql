-- One row per unit and side (and level of a segment): its tasks added up.
select unit_id, side{{ segment }}{{ sums }}
from (
{{ tasks }}
) t
where unit_id is not null
group by unit_id, side{{ segment }}
