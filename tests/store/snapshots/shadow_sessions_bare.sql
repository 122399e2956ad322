-- $as_of = 1794000000000000
-- $control = "baseline"
-- $experiment = "sonnet-swap"
-- $first = 0
-- $last = 1794000000000000
-- $max_file = 7
-- $treatment = "candidate"
-- Control's sessions while requests were mirrored: how many had a request mirrored, and of those with several requests how
-- many had only a part of them mirrored.
select count(*) as sessions, coalesce(sum(case when s.mirrored > 0 then 1 else 0 end), 0) as mirrored,
  coalesce(sum(case when s.mirrored > 0 and s.requests > 1 then 1 else 0 end), 0) as several,
  coalesce(sum(case when s.mirrored > 0 and s.mirrored < s.requests then 1 else 0 end), 0) as partly,
  coalesce(sum(s.requests), 0) as requests, coalesce(sum(s.mirrored), 0) as mirrored_requests
from (
  select q.session_key, count(*) as requests, sum(q.mirrored) as mirrored
  from (
    select k.session_key, k.pair_key,
      max(case when k.pair_key in (select p.pair_key from shadow_pair p) then 1 else 0 end) as mirrored
    from (
-- Calls as the shadow stage sees them, silent ones too: whose, which arm, which request, the how many-th answer to it.
select coalesce(i.request_id, i.interaction_id) as pair_key, i."session_id" as unit_key, case when not i.exposed and i.experiment_id = $experiment and i.variant is not null and i.variant = $treatment then $treatment when not i.exposed then case when i.experiment_id = $experiment and i.variant is not null and i.repeat is not null then i.variant end else i.variant end as arm, i.ts_us, case when i.exposed then 0 else 1 end as silent, case when true then 1 else 0 end as in_population, coalesce(i.session_id, i.unit_id) as session_key
from interaction i
where i.file_id <= $max_file and i.ts_us <= $as_of
  and (i.operation is null or i.operation in ('chat', 'text_completion', 'generate_content'))
  and i.experiment_id = $experiment
    ) k
    where k.arm = $control and k.silent = 0 and k.in_population = 1 and k.ts_us >= $first and k.ts_us <= $last
      and k.session_key is not null
    group by k.session_key, k.pair_key
  ) q
  group by q.session_key
) s
