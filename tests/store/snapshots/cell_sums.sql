-- One row per arm and stage (and look, and segment): units, requests, calls and the sums of every metric.
select arm, stage, stage as look, count(*) as units, cast(coalesce(sum(requests), 0) as bigint) as requests,
  cast(coalesce(sum(calls), 0) as bigint) as calls,
  cast(sum(t0) as decimal(38,0)) as t0,
  cast(sum(t1) as decimal(38,0)) as t1,
  cast(sum(t10) as decimal(38,0)) as t10,
  cast(sum(t11) as decimal(38,0)) as t11,
  cast(sum(t12) as decimal(38,0)) as t12,
  cast(sum(t13) as decimal(38,0)) as t13,
  cast(sum(t2c) as decimal(38,0)) as t2c,
  cast(sum(t3c) as decimal(38,0)) as t3c,
  cast(sum(t4) as decimal(38,0)) as t4,
  cast(sum(t5) as decimal(38,0)) as t5,
  cast(sum(t6) as decimal(38,0)) as t6,
  cast(sum(t7) as decimal(38,0)) as t7,
  cast(sum(t8) as decimal(38,0)) as t8,
  cast(sum(t9c) as decimal(38,0)) as t9c
from cell
group by arm, stage
