-- $common = 6
-- $control = "baseline"
-- $treatment = "candidate"
-- One row per request that control answered for somebody and the treatment answered too. It belongs to the unit of control's
-- answer; the treatment's counts when it names the same unit, or none or another while nobody else used this request id.
select p.unit_key as unit_id, p.pair_key, p.unit_t, p.ts_us, p.seen_us, p.turn, p.treatment_seen, p.answers_c, p.answers_t,
  case when p.unit_key is not null then 1 else 0 end as counted,
  p.xt0,
  p.yt0,
  p.xc0,
  p.yc0,
  case when p.yt0 is not null and p.yc0 is not null then p.xt0 end as a0,
  case when p.yt0 is not null and p.yc0 is not null then p.yt0 end as b0,
  case when p.yt0 is not null and p.yc0 is not null then p.xc0 end as c0,
  case when p.yt0 is not null and p.yc0 is not null then p.yc0 end as d0,
  p.xt1,
  p.yt1,
  p.xc1,
  p.yc1,
  case when p.yt1 is not null and p.yc1 is not null then p.xt1 end as a1,
  case when p.yt1 is not null and p.yc1 is not null then p.yt1 end as b1,
  case when p.yt1 is not null and p.yc1 is not null then p.xc1 end as c1,
  case when p.yt1 is not null and p.yc1 is not null then p.yc1 end as d1,
  p.xt2,
  p.yt2,
  p.xc2,
  p.yc2,
  case when p.yt2 is not null and p.yc2 is not null then p.xt2 end as a2,
  case when p.yt2 is not null and p.yc2 is not null then p.yt2 end as b2,
  case when p.yt2 is not null and p.yc2 is not null then p.xc2 end as c2,
  case when p.yt2 is not null and p.yc2 is not null then p.yc2 end as d2
from (
  select c.pair_key, c.unit_key, t.unit_key as unit_t, c.answers as answers_c, t.answers as answers_t,
    c.ts_us as seen_us, case when t.ts_us > c.ts_us then t.ts_us else c.ts_us end as ts_us,
    case when t.turn > c.turn then t.turn else c.turn end as turn,
    case when t.unseen = 0 then 1 else 0 end as treatment_seen,
    row_number() over (
      partition by c.pair_key, c.unit_key
      order by case when t.unit_key = c.unit_key then 0 when t.unit_key is null then 1 else 2 end, t.unit_key
    ) as choice,
  case when t.y0 > 0 then t.x0 * cast(floor($common / nullif(t.y0, 0)) as bigint) end as xt0,
  case when t.y0 > 0 then 1 end as yt0,
  case when c.y0 > 0 then c.x0 * cast(floor($common / nullif(c.y0, 0)) as bigint) end as xc0,
  case when c.y0 > 0 then 1 end as yc0,
  case when t.y1 > 0 then t.x1 * cast(floor($common / nullif(t.answers, 0)) as bigint) end as xt1,
  case when t.y1 > 0 then 1 end as yt1,
  case when c.y1 > 0 then c.x1 * cast(floor($common / nullif(c.answers, 0)) as bigint) end as xc1,
  case when c.y1 > 0 then 1 end as yc1,
  case when t.y2 > 0 then t.x2 * cast(floor($common / nullif(t.answers, 0)) as bigint) end as xt2,
  case when t.y2 > 0 then t.y2 * cast(floor($common / nullif(t.answers, 0)) as bigint) end as yt2,
  case when c.y2 > 0 then c.x2 * cast(floor($common / nullif(c.answers, 0)) as bigint) end as xc2,
  case when c.y2 > 0 then c.y2 * cast(floor($common / nullif(c.answers, 0)) as bigint) end as yc2
  from shadow_side c
  join shadow_side t on t.pair_key = c.pair_key
  where c.arm = $control and c.unseen = 0 and t.arm = $treatment and (t.unit_key = c.unit_key or c.owners = 1)
) p
where p.choice = 1
