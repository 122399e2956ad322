-- One row per unit, hour of the log and logarithmic bucket of a value: the histograms of pseudo-arms are sums of these.
select u.unit_no, cast(floor(r.head_us / $grid) as bigint) as bucket, cast(floor(({{ seen }}) / $grid) as bigint) as seen,
  coalesce(cast(floor(ln(case when r.value > 0 then r.value end) * $resolution) as bigint), -1000000) as value_bucket,
  count(*) as n
from (
{{ calls }}
) r
join calibrate_unit u on u.unit_id = r.unit_id
where r.arm = $control and not r.not_randomised and r.value is not null
group by 1, 2, 3, 4
order by 1, 3, 2, 4
