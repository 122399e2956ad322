-- One row per arm, stage and hour: what units still without an event contributed to the denominator, the hour of their
-- first event included.
select arm, stage, cast(floor(head_us / $grid) as bigint) as bucket{{ counts }}
from (
  select r.arm, r.stage, r.head_us{{ columns }}
  from (
{{ calls }}
  ) r
  left join first_seen f on f.unit_id = r.unit_id
  where r.unit_id is not null and r.arm in ({{ arms }}) and not r.not_randomised{{ clean }}
) risk
group by arm, stage, cast(floor(head_us / $grid) as bigint)
