-- One row per request and arm: its answers added up. owners: how many units asked something under this id.
select a.pair_key, a.unit_key, a.arm, count(*) as answers, min(a.silent) as unseen, max(a.turn) as turn,
  max(a.ts_us) as ts_us, count(*) over (partition by a.pair_key, a.arm) as owners{{ totals }}
from shadow_answer a
group by a.pair_key, a.unit_key, a.arm
