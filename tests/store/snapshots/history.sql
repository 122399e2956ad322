-- $as_of = 1794000000000000
-- $experiment = "sonnet-swap"
-- $max_file = 7
-- $score_0 = "helpfulness"
-- $scorer_0 = "judge"
-- One row per unit that has a past: what the metrics with a covariate (CUPED) measured in the unit's own calls strictly before
-- it met the experiment, in whatever experiment or in none. It met it with its first call in the request table, with any
-- earlier call that already showed an arm of this experiment (before `start`, say), or when it was assigned, whichever came
-- first. Nothing that happened later can reach these sums: a score counts in the state it had at that moment.
with met as (
  select unit_key, min(first_us) as met_us
  from (
    select unit_id as unit_key, min(ts_us) as first_us
    from request
    where unit_id is not null
    group by unit_id
    union all
    select i."session_id" as unit_key, min(i.ts_us) as first_us
    from interaction i
    where i.experiment_id = $experiment and i.variant is not null and i.exposed
      and i.file_id <= $max_file and i.ts_us <= $as_of
    group by i."session_id"
    union all
    select unit_id as unit_key, min(ts_us) as first_us
    from assignment
    where experiment_id = $experiment and file_id <= $max_file and ts_us <= $as_of
    group by unit_id
  ) meetings
  where unit_key in (select unit_id from request where unit_id is not null)
  group by unit_key
),
past as (
  select i.interaction_id, i.ts_us, i.attempt, m.met_us, m.unit_key, '' as arm,
    coalesce(i.request_id, i.interaction_id) as request_key,
  i."attributes",
  i."cost_usd",
  i."format_ok",
  i."is_error",
  i."latency_ms",
  i."refused"
  from interaction i
  join met m on m.unit_key = i."session_id" and i.ts_us < m.met_us
  where i.exposed
    and i.file_id <= $max_file
    and (i.operation is null or i.operation in ('chat', 'text_completion', 'generate_content'))
    and ("i"."surface" = 'it''s "support"')
),
judged as (
  select interaction_id, name, scorer_kind, value
  from (
    select t.interaction_id, s.name, s.scorer_kind, s.value,
      row_number() over (
        partition by t.interaction_id, s.name, s.scorer_kind, s.scorer_id
        order by coalesce(s.updated_us, s.ts_us) desc, case when s.updated_us is null then 0 else 1 end desc, s.score_id desc,
          case when s.value is null then 0 else 1 end desc, s.value desc
      ) as recency
    from past p
    join score_target t on t.interaction_id = p.interaction_id
    join score s on s.score_id = t.score_id
    where s.file_id <= $max_file and t.file_id <= $max_file and coalesce(s.updated_us, s.ts_us) < p.met_us
  ) ranked
  where recency = 1 and value is not null
),
scored as (
  select interaction_id,
    cast(sum(case when name = $score_0 and scorer_kind = $scorer_0 then cast(floor(value * 1000000 + 0.5) as bigint) else 0 end) as bigint) as sx6,
    cast(sum(case when name = $score_0 and scorer_kind = $scorer_0 then 1 else 0 end) as bigint) as sy6
  from judged
  group by interaction_id
),
ranked as (
  select p.*,
    row_number() over (
      partition by p.unit_key, p.request_key
      order by p.ts_us desc, coalesce(p.attempt, 0) desc, p.interaction_id desc
    ) as call_rank
  from past p
),
measured as (
  select c.unit_key,
  case when c.call_rank = 1 and ("c"."refused") then 1 else 0 end as x0,
  case when c.call_rank = 1 and ("c"."refused") is not null then 1 else 0 end as y0,
  case when c.call_rank = 1 and ("c"."format_ok" AND NOT "c"."is_error") then 1 else 0 end as x1,
  case when c.call_rank = 1 and ("c"."format_ok" AND NOT "c"."is_error") is not null then 1 else 0 end as y1,
  case when abs("c"."latency_ms" / NULLIF((1000), 0)) < 1e308 then cast(floor(("c"."latency_ms" / NULLIF((1000), 0)) * 1000000 + 0.5) as bigint) else 0 end as x2,
  case when abs("c"."latency_ms" / NULLIF((1000), 0)) < 1e308 then 1 else 0 end as y2,
  case when c.call_rank = 1 and abs("c"."cost_usd") < 1e308 and abs(CASE WHEN ("c"."attributes" ->> '$.outcome') = 'solved' THEN 1 ELSE 0 END) < 1e308 then cast(floor(("c"."cost_usd") * 1000000000 + 0.5) as bigint) else 0 end as x3,
  case when c.call_rank = 1 and abs("c"."cost_usd") < 1e308 and abs(CASE WHEN ("c"."attributes" ->> '$.outcome') = 'solved' THEN 1 ELSE 0 END) < 1e308 then cast(floor((CASE WHEN ("c"."attributes" ->> '$.outcome') = 'solved' THEN 1 ELSE 0 END) * 1000000000 + 0.5) as bigint) else 0 end as y3,
  case when c.call_rank = 1 and (TRUE) then 1 else 0 end as x4,
  case when c.call_rank = 1 and (TRUE) is not null then 1 else 0 end as y4,
  coalesce(s.sx6, 0) as x6,
  coalesce(s.sy6, 0) as y6
  from ranked c
  left join scored s on s.interaction_id = c.interaction_id
)
select unit_key as past_unit,
  cast(sum(x0) as bigint) as c0,
  cast(sum(y0) as bigint) as d0,
  cast(least(sum(x1), 1) as bigint) as c1,
  cast(least(sum(y1), 1) as bigint) as d1,
  cast(sum(x2) as bigint) as c2,
  cast(sum(y2) as bigint) as d2,
  cast(sum(x3) as bigint) as c3,
  cast(sum(y3) as bigint) as d3,
  cast(sum(x4) as bigint) as c4,
  cast(least(sum(y4), 1) as bigint) as d4,
  cast(sum(x6) as bigint) as c6,
  cast(sum(y6) as bigint) as d6
from measured
group by unit_key
