-- One row per unit, arm and stage: what it did there, added up. This is the only pass over the logs that needs much memory,
-- and all that the moments need. Calls that were not randomised have rows of their own, which do not count as evidence.
select unit_id, arm, {{ stage }} as stage, {{ not_randomised }} as not_randomised{{ segment }}, count(*) as calls,
  count(head) as requests, min(ts_us) as first_us, max(ts_us) as last_us, min(head_us) as arrived_us,
  max(head_us) as last_head_us{{ totals }}
from (
{{ calls }}
) r
where unit_id is not null and arm is not null
group by unit_id, arm{{ keys }}
