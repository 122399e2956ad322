-- $as_of = 1794000000000000
-- $experiment = "sonnet-swap"
-- $max_file = 7
-- $start = 1793491200000000
-- One row per unit that has a past: what the metrics with a covariate (CUPED) measured in the unit's own calls strictly before
-- it met the experiment, in whatever experiment or in none. It met it with its first call that belongs to the experiment (its
-- arm may be unknown), with any earlier call that already showed an arm (before `start`, say), or when it was assigned,
-- whichever came first. Nothing that happened later can reach these sums: a score counts in the state it had at that moment.
with met as (
  select unit_key, min(first_us) as met_us
  from (
    select unit_id as unit_key, min(first_us) as first_us
    from unit_total
    group by unit_id
    union all
    select i."unit_id" as unit_key, min(i.ts_us) as first_us
    from interaction i
    where i.experiment_id = $experiment and i.exposed and i.file_id <= $max_file and i.ts_us <= $as_of
      and (i.variant is not null or (i.ts_us >= $start and true
        and (i.operation is null or i.operation in ('chat', 'text_completion', 'generate_content'))))
    group by i."unit_id"
    union all
    select unit_id as unit_key, min(ts_us) as first_us
    from assignment
    where experiment_id = $experiment and file_id <= $max_file and ts_us <= $as_of
    group by unit_id
  ) meetings
  where unit_key in (select unit_id from unit_total)
  group by unit_key
),
past as (
  select i.interaction_id, i.ts_us, i.attempt, m.met_us, m.unit_key, '' as arm,
    coalesce(i.request_id, i.interaction_id) as request_key
  from interaction i
  join met m on m.unit_key = i."unit_id" and i.ts_us < m.met_us
  where i.exposed
    and i.file_id <= $max_file
    and (i.operation is null or i.operation in ('chat', 'text_completion', 'generate_content'))
    and true
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
    where s.file_id <= $max_file and t.file_id <= $max_file and t.until_file > $max_file and coalesce(s.updated_us, s.ts_us) < p.met_us
  ) ranked
  where recency = 1 and value is not null
),
scored as (
  select interaction_id
  from judged
  group by interaction_id
),
ranked as (
  select p.*,
    row_number() over (
      partition by p.unit_key, p.request_key
      order by p.ts_us asc, coalesce(p.attempt, 0) asc, p.interaction_id asc
    ) as call_rank
  from past p
),
measured as (
  select c.unit_key,
  case when c.call_rank = 1 and (TRUE) then 1 end as x0,
  case when c.call_rank = 1 and (TRUE) is not null then 1 end as y0
  from ranked c
  left join scored s on s.interaction_id = c.interaction_id
)
select unit_key as past_unit,
  count(x0) as c0,
  least(count(y0), 1) as d0
from measured
group by unit_key
