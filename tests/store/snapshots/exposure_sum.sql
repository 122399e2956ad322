-- $as_of = 1794000000000000
-- $experiment = "sonnet-swap"
-- $grid = 3600000000
-- $max_file = 7
-- $score_0 = "helpfulness"
-- $scorer_0 = "judge"
-- $stage_start_0 = 1793577600000000
-- $start = 1793491200000000
-- One row per model call of the experiment: who (unit), which arm, which stage, which hour, and what it measured.
-- A call's arm is its own variant; else what its unit was assigned at that moment; else, where logs carry no variant, the
-- manifest it ran. Rows without a unit or an arm stay, so that they can be counted. `head` marks the one call that stands
-- for its request (the last or the first attempt); all calls of a request belong to the hour and stage of its head.
with assigned as (
  select unit_id, variant, reason, ts_us as from_us,
    lead(ts_us) over (
      partition by unit_id
      order by ts_us, variant, coalesce(reason, ''), coalesce(ruleset_version, ''), coalesce(provider, '')
    ) as until_us
  from assignment
  where experiment_id = $experiment and file_id <= $max_file and ts_us <= $as_of
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
    from score s
    join score_target t on t.score_id = s.score_id
    where s.file_id <= $max_file and t.file_id <= $max_file and coalesce(s.updated_us, s.ts_us) <= $as_of
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
resolved as (
  select i.interaction_id, i.ts_us, i.attempt,
    coalesce(i.request_id, i.interaction_id) as request_key,
    coalesce(i."request_id", i."interaction_id") as unit_key,
    case
      when i.experiment_id = $experiment and i.variant is not null then i.variant
      when a.variant is not null then a.variant
      
    end as arm,
    case when lower(a.reason) in ('default', 'error', 'stale', 'disabled') then 1 else 0 end as by_default,
    i."attributes",
    i."cost_usd",
    i."embedding_model_version",
    i."format_ok",
    i."index_id",
    i."is_error",
    i."latency_ms",
    i."model",
    i."prompt_name",
    i."prompt_sha256",
    i."prompt_version",
    i."refused",
    i."ruleset_version"
  from interaction i
  left join assigned a
    on a.unit_id = coalesce(i."request_id", i."interaction_id") and a.from_us <= i.ts_us and (a.until_us is null or i.ts_us < a.until_us)
  where i.exposed
    and i.file_id <= $max_file
    and i.ts_us >= $start and i.ts_us <= $as_of
    and (i.operation is null or i.operation in ('chat', 'text_completion', 'generate_content'))
    and (i.experiment_id = $experiment or a.variant is not null)
    and true
),
ranked as (
  select r.*,
    row_number() over (
      partition by r.unit_key, r.arm, r.request_key
      order by r.ts_us desc, coalesce(r.attempt, 0) desc, r.interaction_id desc
    ) as call_rank,
    max(r.ts_us) over (partition by r.unit_key, r.arm, r.request_key) as head_us,
    max(r.by_default) over (partition by r.unit_key, r.arm, r.request_key) = 1 as not_randomised
  from resolved r
)
select c.interaction_id, c.unit_key as unit_id, c.arm, c.ts_us, c.not_randomised, c."model", c."prompt_name", c."prompt_version", c."prompt_sha256", c."embedding_model_version", c."index_id", c."ruleset_version",
  case when c.call_rank = 1 then 1 else 0 end as head,
  case when c.head_us >= $stage_start_0 then 1 else 0 end as stage,
  cast(floor(c.head_us / $grid) as bigint) as bucket,
  case when c.call_rank = 1 and ("c"."refused") then 1 else 0 end as x0,
  case when c.call_rank = 1 and ("c"."refused") is not null then 1 else 0 end as y0,
  case when c.call_rank = 1 and ("c"."format_ok" AND NOT "c"."is_error") then 1 else 0 end as x1,
  case when c.call_rank = 1 and ("c"."format_ok" AND NOT "c"."is_error") is not null then 1 else 0 end as y1,
  case when abs("c"."latency_ms" / NULLIF((1000), 0)) < 1e308 then cast(floor(("c"."latency_ms" / NULLIF((1000), 0)) * 1000000 + 0.5) as bigint) else 0 end as x2,
  case when abs("c"."latency_ms" / NULLIF((1000), 0)) < 1e308 then 1 else 0 end as y2,
  case when abs("c"."cost_usd") < 1e308 and abs(CASE WHEN ("c"."attributes" ->> '$.outcome') = 'solved' THEN 1 ELSE 0 END) < 1e308 then cast(floor(("c"."cost_usd") * 1000000000 + 0.5) as bigint) else 0 end as x3,
  case when abs("c"."cost_usd") < 1e308 and abs(CASE WHEN ("c"."attributes" ->> '$.outcome') = 'solved' THEN 1 ELSE 0 END) < 1e308 then cast(floor((CASE WHEN ("c"."attributes" ->> '$.outcome') = 'solved' THEN 1 ELSE 0 END) * 1000000000 + 0.5) as bigint) else 0 end as y3,
  case when c.call_rank = 1 and (TRUE) then 1 else 0 end as x4,
  case when c.call_rank = 1 and (TRUE) is not null then 1 else 0 end as y4,
  case when c.call_rank = 1 and sum(case when abs("c"."latency_ms") < 1e308 then "c"."latency_ms" end) over (partition by c.unit_key, c.arm, c.request_key) is not null then cast(sum(case when abs("c"."latency_ms") < 1e308 then "c"."latency_ms" end) over (partition by c.unit_key, c.arm, c.request_key) as double) end as v5,
  coalesce(s.sx6, 0) as x6,
  coalesce(s.sy6, 0) as y6
from ranked c
left join scored s on s.interaction_id = c.interaction_id
