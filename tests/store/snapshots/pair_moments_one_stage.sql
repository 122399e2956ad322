-- One row per pair of cells (cell = arm and stage, first stage <= second; and look, and segment): sums of products over units.
-- A unit seen in several stages is one cluster, so products run over pairs of cells.
select arm as arm_a, stage as stage_a, arm as arm_b, stage as stage_b, stage as look,
  count(*) as units,
  cast(coalesce(sum(cast(t0 as decimal(38,0)) * t0), 0) as decimal(38,0)) as t0_t0,
  cast(coalesce(sum(cast(t0 as decimal(38,0)) * t1), 0) as decimal(38,0)) as t0_t1,
  cast(coalesce(sum(cast(t1 as decimal(38,0)) * t0), 0) as decimal(38,0)) as t1_t0,
  cast(coalesce(sum(cast(t1 as decimal(38,0)) * t1), 0) as decimal(38,0)) as t1_t1,
  cast(coalesce(sum(cast(t2c as decimal(38,0)) * t2c), 0) as decimal(38,0)) as t2c_t2c,
  cast(coalesce(sum(cast(t2c as decimal(38,0)) * t3c), 0) as decimal(38,0)) as t2c_t3c,
  cast(coalesce(sum(cast(t3c as decimal(38,0)) * t2c), 0) as decimal(38,0)) as t3c_t2c,
  cast(coalesce(sum(cast(t3c as decimal(38,0)) * t3c), 0) as decimal(38,0)) as t3c_t3c,
  cast(coalesce(sum(cast(t4 as decimal(38,0)) * t4), 0) as decimal(38,0)) as t4_t4,
  cast(coalesce(sum(cast(t4 as decimal(38,0)) * t5), 0) as decimal(38,0)) as t4_t5,
  cast(coalesce(sum(cast(t5 as decimal(38,0)) * t4), 0) as decimal(38,0)) as t5_t4,
  cast(coalesce(sum(cast(t5 as decimal(38,0)) * t5), 0) as decimal(38,0)) as t5_t5
from cell
group by arm, stage
