-- What every unit was assigned, and from when until when.
select unit_id, variant, case when lower(reason) in ('default', 'error', 'stale', 'disabled') then 1 else 0 end as by_default,
  ts_us as from_us,
  lead(ts_us) over (
    partition by unit_id
    order by ts_us, variant, coalesce(reason, ''), coalesce(ruleset_version, ''), coalesce(provider, '')
  ) as until_us
from assignment
where experiment_id = $experiment and file_id <= $max_file and ts_us <= $as_of{{ some_units }}
