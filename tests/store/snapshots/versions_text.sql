-- $as_of = 4611686018427387904
-- $prompt_name = "answer"
-- $prompt_version = "v13"
-- $start = 0
-- The prompt text of the earliest call that ran a prompt and whose text was kept.
select t.prompt_text
from interaction_text t
join (
  select min(concat(lpad(cast(i.ts_us as varchar), 20, '0'), i.interaction_id)) as earliest
  from interaction i
  join interaction_text k on k.interaction_id = i.interaction_id
  where k.prompt_text is not null and i.ts_us >= $start and i.ts_us <= $as_of
      and i."prompt_name" = $prompt_name
      and i."prompt_version" = $prompt_version
) e on substr(e.earliest, 21) = t.interaction_id
