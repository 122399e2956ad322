-- One row per unit, arm, stage and stretch of time with what the unit had accumulated in that arm and stage after it (a*) and
-- before it (b*): from these every cumulative sum and every pair moment over time follows without a second scan.
with steps as (
  select unit_id, arm, stage, cast(floor(head_us / $grid) as bigint) as bucket, count(head) as requests,
    count(*) as calls{{ totals }}
  from (
{{ calls }}
  ) r
  where r.unit_id is not null and r.arm in ({{ arms }}) and not r.not_randomised{{ clean }}
  group by unit_id, arm, stage, cast(floor(head_us / $grid) as bigint)
),
running as (
  select unit_id, arm, stage, bucket, requests, calls,
    row_number() over (partition by unit_id, arm, stage order by bucket) as visit{{ running_sums }}
  from steps
)
select unit_id, arm, stage, bucket, requests, calls, case when visit = 1 then 1 else 0 end as new_in_cell{{ after_before }}
from running{{ joins }}
