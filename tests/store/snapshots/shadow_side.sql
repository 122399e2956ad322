-- One row per request and arm: its answers added up. owners: how many units asked something under this id.
select a.pair_key, a.unit_key, a.arm, count(*) as answers, min(a.silent) as unseen, max(a.turn) as turn,
  max(a.ts_us) as ts_us, count(*) over (partition by a.pair_key, a.arm) as owners,
  cast(sum(a.x0) as bigint) as x0,
  cast(sum(a.y0) as bigint) as y0,
  cast(sum(a.x1) as bigint) as x1,
  cast(sum(a.y1) as bigint) as y1,
  cast(sum(a.x2) as bigint) as x2,
  cast(sum(a.y2) as bigint) as y2,
  cast(sum(a.x3) as bigint) as x3,
  cast(sum(a.y3) as bigint) as y3,
  cast(sum(a.k3) as bigint) as k3,
  cast(sum(a.x4) as bigint) as x4,
  cast(sum(a.y4) as bigint) as y4,
  cast(sum(a.x5) as bigint) as x5,
  cast(sum(a.y5) as bigint) as y5,
  cast(sum(a.x6) as bigint) as x6,
  cast(sum(a.y6) as bigint) as y6,
  cast(sum(a.x7) as bigint) as x7,
  cast(sum(a.y7) as bigint) as y7
from shadow_answer a
group by a.pair_key, a.unit_key, a.arm
