-- $as_of = 1794000000000000
-- $experiment = "sonnet-swap"
-- $max_file = 7
-- $since = 1793996400000000
-- Assignments since a moment: an older one says what a unit was given before the halt, not what it is given now.
select unit_id, variant, by_default, from_us, until_us
from (
-- What every unit was assigned, and from when until when.
select unit_id, variant, case when lower(reason) in ('default', 'error', 'stale', 'disabled') then 1 else 0 end as by_default,
  ts_us as from_us,
  lead(ts_us) over (
    partition by unit_id
    order by ts_us, variant, coalesce(reason, ''), coalesce(ruleset_version, ''), coalesce(provider, '')
  ) as until_us
from assignment
where experiment_id = $experiment and file_id <= $max_file and ts_us <= $as_of
) a
where from_us >= $since
