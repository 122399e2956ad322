-- One row per unit, arm, stage and hour with what the unit had accumulated in that arm and stage after the hour (a*) and
-- before it (b*): from these, every cumulative sum and every pair moment at every hour follows without a second scan.
-- Units seen in two arms within one stage are contaminated and left out; calls that were not randomised too.
with hourly as (
  select unit_id, arm, stage, bucket, cast(sum(head) as bigint) as requests, count(*) as calls{{ hourly_sums }}
  from request
  where unit_id is not null and arm is not null and arm in ({{ arms }}) and not not_randomised
  group by unit_id, arm, stage, bucket
),
seen as (
  select h.*,
    min(arm) over (partition by unit_id, stage) as first_arm,
    max(arm) over (partition by unit_id, stage) as last_arm
  from hourly h
),
running as (
  select unit_id, arm, stage, bucket, requests, calls,
    row_number() over (partition by unit_id, arm, stage order by bucket) as visit,
    row_number() over (partition by unit_id, arm order by bucket, stage) as visit_of_arm{{ running_sums }}
  from seen
  where first_arm = last_arm
)
select unit_id, arm, stage, bucket, requests, calls, case when visit = 1 then 1 else 0 end as new_in_cell,
  case when visit_of_arm = 1 then 1 else 0 end as new_in_arm{{ after_before }}
from running{{ join_history }}
