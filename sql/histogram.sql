-- Requests per arm, stage and logarithmic bucket of a value (0.5 % wide). Values of zero and below share a bucket.
select r.arm, r.stage{{ segment }}, coalesce(cast(floor(ln(case when r.value > 0 then r.value end) * $resolution) as bigint), -1000000) as value_bucket,
  count(*) as n
from (
{{ calls }}
) r
where r.value is not null and r.unit_id is not null and r.arm in ({{ arms }}) and not r.not_randomised{{ clean }}
group by {{ keys }}
