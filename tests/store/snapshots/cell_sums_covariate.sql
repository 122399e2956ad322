-- One row per arm and stage (and look, and segment): units, requests, calls and the sums of every metric.
select arm, stage, stage as look, count(*) as units, cast(coalesce(sum(requests), 0) as bigint) as requests,
  cast(coalesce(sum(calls), 0) as bigint) as calls,
  cast(sum(c0) as decimal(38,0)) as c0,
  cast(sum(c3) as decimal(38,0)) as c3,
  cast(sum(d0) as decimal(38,0)) as d0,
  cast(sum(d3) as decimal(38,0)) as d3,
  cast(sum(t0) as decimal(38,0)) as t0,
  cast(sum(t1) as decimal(38,0)) as t1,
  cast(sum(t2) as decimal(38,0)) as t2,
  cast(sum(t3) as decimal(38,0)) as t3
from cell
group by arm, stage
