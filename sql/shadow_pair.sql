-- One row per request that control answered for somebody and the treatment answered too. It belongs to the unit of control's
-- answer; the treatment's counts when it names the same unit, or none or another while nobody else used this request id.
select p.unit_key as unit_id, p.pair_key, p.unit_t, p.ts_us, p.seen_us, p.turn, p.treatment_seen, p.answers_c, p.answers_t,
  case when p.unit_key is not null{{ turns }} then 1 else 0 end as counted{{ values }}
from (
  select c.pair_key, c.unit_key, t.unit_key as unit_t, c.answers as answers_c, t.answers as answers_t,
    c.ts_us as seen_us, case when t.ts_us > c.ts_us then t.ts_us else c.ts_us end as ts_us,
    case when t.turn > c.turn then t.turn else c.turn end as turn,
    case when t.unseen = 0 then 1 else 0 end as treatment_seen,
    row_number() over (
      partition by c.pair_key, c.unit_key
      order by case when t.unit_key = c.unit_key then 0 when t.unit_key is null then 1 else 2 end, t.unit_key
    ) as choice{{ sides }}
  from shadow_side c
  join shadow_side t on t.pair_key = c.pair_key
  where c.arm = $control and c.unseen = 0 and t.arm = $treatment and (t.unit_key = c.unit_key or c.owners = 1)
) p
where p.choice = 1
