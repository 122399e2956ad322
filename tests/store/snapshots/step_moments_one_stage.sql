-- One row per pair of cells (cell = arm and stage, first stage <= second; and look, and segment): sums of products over units.
-- A unit seen in several stages is one cluster, so products run over pairs of cells.
select arm as arm_a, stage as stage_a, arm as arm_b, stage as stage_b, stage * 10000000 + bucket as look,
  count(*) as units,
  cast(coalesce(sum(cast(at0 as decimal(38,0)) * at0 - cast(bt0 as decimal(38,0)) * bt0), 0) as decimal(38,0)) as t0_t0,
  cast(coalesce(sum(cast(at0 as decimal(38,0)) * at1 - cast(bt0 as decimal(38,0)) * bt1), 0) as decimal(38,0)) as t0_t1,
  cast(coalesce(sum(cast(at1 as decimal(38,0)) * at0 - cast(bt1 as decimal(38,0)) * bt0), 0) as decimal(38,0)) as t1_t0,
  cast(coalesce(sum(cast(at1 as decimal(38,0)) * at1 - cast(bt1 as decimal(38,0)) * bt1), 0) as decimal(38,0)) as t1_t1,
  cast(coalesce(sum(cast(at2c as decimal(38,0)) * at2c - cast(bt2c as decimal(38,0)) * bt2c), 0) as decimal(38,0)) as t2c_t2c,
  cast(coalesce(sum(cast(at2c as decimal(38,0)) * at3c - cast(bt2c as decimal(38,0)) * bt3c), 0) as decimal(38,0)) as t2c_t3c,
  cast(coalesce(sum(cast(at3c as decimal(38,0)) * at2c - cast(bt3c as decimal(38,0)) * bt2c), 0) as decimal(38,0)) as t3c_t2c,
  cast(coalesce(sum(cast(at3c as decimal(38,0)) * at3c - cast(bt3c as decimal(38,0)) * bt3c), 0) as decimal(38,0)) as t3c_t3c,
  cast(coalesce(sum(cast(at4 as decimal(38,0)) * at4 - cast(bt4 as decimal(38,0)) * bt4), 0) as decimal(38,0)) as t4_t4,
  cast(coalesce(sum(cast(at4 as decimal(38,0)) * at5 - cast(bt4 as decimal(38,0)) * bt5), 0) as decimal(38,0)) as t4_t5,
  cast(coalesce(sum(cast(at5 as decimal(38,0)) * at4 - cast(bt5 as decimal(38,0)) * bt4), 0) as decimal(38,0)) as t5_t4,
  cast(coalesce(sum(cast(at5 as decimal(38,0)) * at5 - cast(bt5 as decimal(38,0)) * bt5), 0) as decimal(38,0)) as t5_t5
from unit_step
group by arm, stage, bucket
