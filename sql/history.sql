-- One row per unit that has a past: what the metrics with a covariate (CUPED) measured in the unit's own calls strictly before
-- it met the experiment, in whatever experiment or in none. It met it with its first call that belongs to the experiment (its
-- arm may be unknown), with any earlier call that already showed an arm (before `start`, say), or when it was assigned,
-- whichever came first. Nothing that happened later can reach these sums: a score counts in the state it had at that moment.
with firsts as (
  select unit_id as unit_key, min(first_us) as first_us
  from unit_total
  group by unit_id
),
early as (
  select i.interaction_id, i.ts_us, i.attempt, f.unit_key, coalesce(i.request_id, i.interaction_id) as request_key,
    i.experiment_id, i.variant,
    case when (i.operation is null or i.operation in ('chat', 'text_completion', 'generate_content')) and {{ where }}
      then 1 else 0 end as counts{{ columns }}
  from {{ interaction }} i
  join firsts f on f.unit_key = {{ unit }} and i.ts_us < f.first_us
  where i.exposed and i.file_id <= $max_file and i.ts_us <= $as_of
),
met as (
  select unit_key, min(first_us) as met_us
  from (
    select unit_key, first_us
    from firsts
    union all
    select unit_key, ts_us as first_us
    from early
    where experiment_id = $experiment and (variant is not null or (ts_us >= $start and counts = 1))
    union all
    select unit_id as unit_key, ts_us as first_us
    from assignment
    where experiment_id = $experiment and file_id <= $max_file and ts_us <= $as_of
      and unit_id in (select unit_key from firsts)
  ) meetings
  group by unit_key
),
past as (
  select e.*, m.met_us, '' as arm
  from early e
  join met m on m.unit_key = e.unit_key and e.ts_us < m.met_us
  where e.counts = 1
),{{ scored }}
ranked as (
  select p.*, {{ call_rank }} as call_rank
  from past p
),
measured as (
  select c.unit_key{{ measures }}
  from ranked c{{ scores }}
)
select unit_key as past_unit{{ totals }}
from measured
group by unit_key
