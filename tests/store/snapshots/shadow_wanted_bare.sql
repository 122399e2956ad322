-- $as_of = 1794000000000000
-- $control = "baseline"
-- $experiment = "sonnet-swap"
-- $max_file = 7
-- $treatment = "candidate"
-- The requests that the treatment answered without being seen, or that others answered too: only these can be pairs. Requests of
-- control whose answer was repeated are wanted as well, for the noise floor.
select distinct k.pair_key
from (
-- Calls as the shadow stage sees them, silent ones too: whose, which arm, which request, the how many-th answer to it.
select coalesce(i.request_id, i.interaction_id) as pair_key, i."session_id" as unit_key, case when not i.exposed and i.experiment_id = $experiment and i.variant is not null and i.variant = $treatment then $treatment when not i.exposed then case when i.experiment_id = $experiment and i.variant is not null and i.repeat is not null then i.variant end else i.variant end as arm, i.ts_us, case when i.exposed then 0 else 1 end as silent, case when true then 1 else 0 end as in_population, 0 as several, case when i.repeat is not null then 1 else 0 end as repeated
from interaction i
where i.file_id <= $max_file and i.ts_us <= $as_of
  and (i.operation is null or i.operation in ('chat', 'text_completion', 'generate_content'))
  and i.experiment_id = $experiment
) k
where (k.arm = $treatment and (k.silent = 1 or k.several = 1)) or (k.repeated = 1 and k.arm in ($control, $treatment))
