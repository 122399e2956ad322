-- $resolution = 200
-- Requests per arm and logarithmic bucket of a value (0.5 % wide): serves quantiles. Values of zero and below share a bucket.
select r.arm, r.stage, coalesce(cast(floor(ln(case when r.v5 > 0 then r.v5 end) * $resolution) as bigint), -1000000) as value_bucket,
  count(*) as n
from request r
join (select distinct unit_id, arm, stage from unit_step) u on u.unit_id = r.unit_id and u.arm = r.arm and u.stage = r.stage
where r.v5 is not null and not r.not_randomised
group by 1, 2, 3
order by 1, 2, 3
