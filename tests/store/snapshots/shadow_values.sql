-- $control = "baseline"
-- $resolution = 200
-- $treatment = "candidate"
-- $until = 1794000000000000
-- Pairs by arm and logarithmic bucket (0.5 % wide) of a quantile's value. Values of zero and below share a bucket.
select v.arm, coalesce(cast(floor(ln(case when v.value > 0 then v.value end) * $resolution) as bigint), -1000000) as value_bucket,
  count(*) as n
from (
  select a.arm, a.v5 as value
  from shadow_answer a
  join shadow_pair p on p.pair_key = a.pair_key
  where p.counted = 1 and p.ts_us <= $until
    and ((a.arm = $control and a.unit_key = p.unit_id) or (a.arm = $treatment and a.unit_key is not distinct from p.unit_t))
) v
where v.value is not null
group by v.arm, coalesce(cast(floor(ln(case when v.value > 0 then v.value end) * $resolution) as bigint), -1000000)
