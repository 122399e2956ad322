-- Sums and products over units: within a side, and between the two sides of a unit that has both.
select p.side as side_a, q.side as side_b{{ segment }}, count(*) as units{{ sums }}{{ products }}
from tradeoff_unit p
join tradeoff_unit q on q.unit_id = p.unit_id and p.side <= q.side{{ same_segment }}
group by p.side, q.side{{ keys }}
