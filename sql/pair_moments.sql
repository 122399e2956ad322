-- One row per pair of cells (cell = arm and stage, first stage <= second; and look, and segment): sums of products over units.
-- A unit seen in several stages is one cluster, so products run over pairs of cells.
select arm as arm_a, stage as stage_a, arm as arm_b, stage as stage_b, {{ look }} as look{{ segment }},
  count(*) as units{{ own_products }}
from {{ cells }}
group by arm, stage{{ keys }}
{{ across }}
