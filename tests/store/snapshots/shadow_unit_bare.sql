-- $common = 6
-- $until = 1794000000000000
-- One row per unit: its pairs added up. A pair counts for a metric when both answers can tell.
select p.unit_id, count(*) as pairs, min(p.ts_us) as first_us,
  cast(coalesce(sum(p.a0), 0) as bigint) as a0,
  cast(coalesce(sum(p.b0), 0) as bigint) as b0,
  cast(coalesce(sum(p.c0), 0) as bigint) as c0,
  cast(coalesce(sum(p.d0), 0) as bigint) as d0,
  least(cast(coalesce(sum(p.a1), 0) as bigint), $common) as a1,
  least(cast(coalesce(sum(p.b1), 0) as bigint), 1) as b1,
  least(cast(coalesce(sum(p.c1), 0) as bigint), $common) as c1,
  least(cast(coalesce(sum(p.d1), 0) as bigint), 1) as d1,
  cast(coalesce(sum(p.a2), 0) as bigint) as a2,
  cast(coalesce(sum(p.b2), 0) as bigint) as b2,
  cast(coalesce(sum(p.c2), 0) as bigint) as c2,
  cast(coalesce(sum(p.d2), 0) as bigint) as d2
from shadow_pair p
where p.counted = 1 and p.ts_us <= $until
group by p.unit_id
