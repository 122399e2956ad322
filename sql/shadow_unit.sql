-- One row per unit: its pairs added up. A pair counts for a metric when both answers can tell.
select p.unit_id, count(*) as pairs, min(p.ts_us) as first_us{{ totals }}
from shadow_pair p
where p.counted = 1 and p.ts_us <= $until
group by p.unit_id
