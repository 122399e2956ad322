-- One row per arm and stage (and look, and segment): units, requests, calls and the sums of every metric.
select arm, stage, stage * 10000000 + bucket as look, cast(sum(new_in_cell) as bigint) as units, cast(coalesce(sum(requests), 0) as bigint) as requests,
  cast(coalesce(sum(calls), 0) as bigint) as calls,
  cast(sum(ac0 - bc0) as decimal(38,0)) as c0,
  cast(sum(ac3 - bc3) as decimal(38,0)) as c3,
  cast(sum(ad0 - bd0) as decimal(38,0)) as d0,
  cast(sum(ad3 - bd3) as decimal(38,0)) as d3,
  cast(sum(at0 - bt0) as decimal(38,0)) as t0,
  cast(sum(at1 - bt1) as decimal(38,0)) as t1,
  cast(sum(at2 - bt2) as decimal(38,0)) as t2,
  cast(sum(at3 - bt3) as decimal(38,0)) as t3
from unit_step
group by arm, stage, bucket
