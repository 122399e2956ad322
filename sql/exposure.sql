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
  select interaction_id{{ score_sums }}
  from judged
  group by interaction_id
),
resolved as (
  select i.interaction_id, i.ts_us, i.attempt,
    coalesce(i.request_id, i.interaction_id) as request_key,
    {{ unit }} as unit_key,
    case
      when i.experiment_id = $experiment and i.variant is not null then i.variant
      when a.variant is not null then a.variant
      {{ manifest_arms }}
    end as arm,
    case when lower(a.reason) in ('default', 'error', 'stale', 'disabled') then 1 else 0 end as by_default,
    {{ columns }}
  from interaction i
  left join assigned a
    on a.unit_id = {{ unit }} and a.from_us <= i.ts_us and (a.until_us is null or i.ts_us < a.until_us)
  where i.exposed
    and i.file_id <= $max_file
    and i.ts_us >= $start and i.ts_us <= $as_of
    and (i.operation is null or i.operation in ('chat', 'text_completion', 'generate_content'))
    and (i.experiment_id = $experiment or a.variant is not null{{ or_manifest }})
    and {{ where }}
),
ranked as (
  select r.*,
    row_number() over (
      partition by r.unit_key, r.arm, r.request_key
      order by r.ts_us {{ call_order }}, coalesce(r.attempt, 0) {{ call_order }}, r.interaction_id {{ call_order }}
    ) as call_rank,
    {{ head_time }}(r.ts_us) over (partition by r.unit_key, r.arm, r.request_key) as head_us,
    max(r.by_default) over (partition by r.unit_key, r.arm, r.request_key) = 1 as not_randomised
  from resolved r
)
select c.interaction_id, c.unit_key as unit_id, c.arm, c.ts_us, c.not_randomised{{ manifest_columns }},
  case when c.call_rank = 1 then 1 else 0 end as head,
  {{ stage }} as stage,
  cast(floor(c.head_us / $grid) as bigint) as bucket{{ measures }}
from ranked c
left join scored s on s.interaction_id = c.interaction_id
