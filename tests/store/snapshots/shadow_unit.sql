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
  cast(coalesce(sum(p.d2), 0) as bigint) as d2,
  cast(coalesce(sum(p.a3), 0) as bigint) as a3,
  cast(coalesce(sum(p.b3), 0) as bigint) as b3,
  cast(coalesce(sum(p.c3), 0) as bigint) as c3,
  cast(coalesce(sum(p.d3), 0) as bigint) as d3,
  cast(coalesce(sum(p.a4), 0) as bigint) as a4,
  least(cast(coalesce(sum(p.b4), 0) as bigint), 1) as b4,
  cast(coalesce(sum(p.c4), 0) as bigint) as c4,
  least(cast(coalesce(sum(p.d4), 0) as bigint), 1) as d4,
  cast(coalesce(sum(p.a5), 0) as bigint) as a5,
  cast(coalesce(sum(p.b5), 0) as bigint) as b5,
  cast(coalesce(sum(p.c5), 0) as bigint) as c5,
  cast(coalesce(sum(p.d5), 0) as bigint) as d5,
  cast(coalesce(sum(p.a6), 0) as bigint) as a6,
  cast(coalesce(sum(p.b6), 0) as bigint) as b6,
  cast(coalesce(sum(p.c6), 0) as bigint) as c6,
  cast(coalesce(sum(p.d6), 0) as bigint) as d6,
  cast(coalesce(sum(p.a7), 0) as bigint) as a7,
  cast(coalesce(sum(p.b7), 0) as bigint) as b7,
  cast(coalesce(sum(p.c7), 0) as bigint) as c7,
  cast(coalesce(sum(p.d7), 0) as bigint) as d7
from shadow_pair p
where p.counted = 1 and p.ts_us <= $until
group by p.unit_id
