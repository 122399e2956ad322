-- What became of the requests that both answered, and how much the pairs differ: one row.
select count(*) as matched, coalesce(sum(p.counted), 0) as pairs,
  coalesce(sum(case when p.unit_id is null then 1 else 0 end), 0) as no_unit,
  coalesce(sum(case when p.turn > 1 then 1 else 0 end), 0) as later_turns,
  coalesce(sum(case when p.counted = 1 then p.treatment_seen else 0 end), 0) as treatment_seen,
  coalesce(sum(case when p.counted = 1 and p.answers_c + p.answers_t > 2 then 1 else 0 end), 0) as repeated,
  coalesce(sum(case when p.counted = 1 then cast(floor($common / nullif(p.answers_c, 0)) as bigint) else 0 end), 0) as inverse_c,
  coalesce(sum(case when p.counted = 1 then cast(floor($common / nullif(p.answers_t, 0)) as bigint) else 0 end), 0) as inverse_t,
  min(case when p.counted = 1 then p.ts_us end) as first_us, min(case when p.counted = 1 then p.seen_us end) as first_seen_us,
  max(case when p.counted = 1 then p.seen_us end) as last_seen_us{{ tables }}
from shadow_pair p
