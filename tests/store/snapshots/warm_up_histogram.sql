-- $control = "baseline"
-- $cutoff = 1
-- $resolution = 200
-- The same histogram over the warm-up: control's calls up to the moment its n-th unit arrived.
select coalesce(cast(floor(ln(case when v5 > 0 then v5 end) * $resolution) as bigint), -1000000) as value_bucket, count(*) as n
from request
where arm = $control and unit_id is not null and not not_randomised and ts_us <= $cutoff and v5 is not null
group by 1
order by 1
