-- The histogram of a value over the warm-up: control's calls up to the moment its n-th unit arrived.
select coalesce(cast(floor(ln(case when value > 0 then value end) * $resolution) as bigint), -1000000) as value_bucket, count(*) as n
from (
{{ calls }}
) r
where arm = $control and unit_id is not null and not not_randomised and value is not null
group by 1
