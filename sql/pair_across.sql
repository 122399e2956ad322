-- And over pairs of cells: units that were seen in an earlier stage and in a later one.
union all
select p.arm as arm_a, p.stage as stage_a, q.arm as arm_b, q.stage as stage_b, {{ look }} as look{{ segment }},
  count(*) as units{{ cross_products }}
from {{ earlier }} p
join {{ cells }} q on q.unit_id = p.unit_id and p.stage < q.stage{{ same_segment }}
group by p.arm, p.stage, q.arm, q.stage{{ keys }}
