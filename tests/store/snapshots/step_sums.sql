-- One row per arm and stage (and look, and segment): units, requests, calls and the sums of every metric.
select arm, stage, stage * 10000000 + bucket as look, cast(sum(new_in_cell) as bigint) as units, cast(coalesce(sum(requests), 0) as bigint) as requests,
  cast(coalesce(sum(calls), 0) as bigint) as calls,
  cast(sum(at0 - bt0) as decimal(38,0)) as t0,
  cast(sum(at1 - bt1) as decimal(38,0)) as t1,
  cast(sum(at10 - bt10) as decimal(38,0)) as t10,
  cast(sum(at11 - bt11) as decimal(38,0)) as t11,
  cast(sum(at12 - bt12) as decimal(38,0)) as t12,
  cast(sum(at13 - bt13) as decimal(38,0)) as t13,
  cast(sum(at2c - bt2c) as decimal(38,0)) as t2c,
  cast(sum(at3c - bt3c) as decimal(38,0)) as t3c,
  cast(sum(at4 - bt4) as decimal(38,0)) as t4,
  cast(sum(at5 - bt5) as decimal(38,0)) as t5,
  cast(sum(at6 - bt6) as decimal(38,0)) as t6,
  cast(sum(at7 - bt7) as decimal(38,0)) as t7,
  cast(sum(at8 - bt8) as decimal(38,0)) as t8,
  cast(sum(at9c - bt9c) as decimal(38,0)) as t9c
from unit_step
group by arm, stage, bucket
