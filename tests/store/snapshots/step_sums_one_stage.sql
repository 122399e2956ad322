-- One row per arm and stage (and look, and segment): units, requests, calls and the sums of every metric.
select arm, stage, stage * 10000000 + bucket as look, cast(sum(new_in_cell) as bigint) as units, cast(coalesce(sum(requests), 0) as bigint) as requests,
  cast(coalesce(sum(calls), 0) as bigint) as calls,
  cast(sum(at0 - bt0) as decimal(38,0)) as t0,
  cast(sum(at1 - bt1) as decimal(38,0)) as t1,
  cast(sum(at2c - bt2c) as decimal(38,0)) as t2c,
  cast(sum(at3c - bt3c) as decimal(38,0)) as t3c,
  cast(sum(at4 - bt4) as decimal(38,0)) as t4,
  cast(sum(at5 - bt5) as decimal(38,0)) as t5
from unit_step
group by arm, stage, bucket
