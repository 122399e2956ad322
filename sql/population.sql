-- Calls by what became of them and by what they ran (the manifest), with a first look at the numbers that will be added up.
select arm, {{ fields }}, not_randomised, case when unit_id is null then 1 else 0 end as no_unit, count(*) as calls,
  count(head) as requests, min(ts_us) as first_us, max(ts_us) as last_us{{ looks }}
from (
{{ calls }}
) r
group by arm, {{ fields }}, not_randomised, case when unit_id is null then 1 else 0 end
