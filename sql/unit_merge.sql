-- What units had done before and what they have done since, added up.
select unit_id, arm, stage, not_randomised, cast(sum(calls) as bigint) as calls, cast(sum(requests) as bigint) as requests,
  min(first_us) as first_us, max(last_us) as last_us, min(arrived_us) as arrived_us,
  max(last_head_us) as last_head_us{{ totals }}
from (
  select unit_id, arm, stage, not_randomised, calls, requests, first_us, last_us, arrived_us, last_head_us{{ before }}
  from {{ state }}
  where unit_id in (select unit_id from touched)
  union all
  select unit_id, arm, stage, not_randomised, calls, requests, first_us, last_us, arrived_us, last_head_us{{ since }}
  from unit_delta
) both_parts
group by unit_id, arm, stage, not_randomised
