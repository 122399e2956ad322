-- One row per model call of a technique, shadow calls and offline answers included: who asked, which technique, which request.
-- Further answers to the same prompt (repeat > 0 measures the model's own noise) are no attempts of a task.
select {{ unit }} as unit_key, {{ arm }} as arm, coalesce(i.request_id, i.interaction_id) as request_key, 0 as by_default{{ columns }}
from {{ interaction }} i{{ joins }}
where i.file_id <= $max_file
  and i.ts_us >= $start and i.ts_us <= $as_of
  and (i.operation is null or i.operation in ('chat', 'text_completion', 'generate_content'))
  and coalesce(i.repeat, 0) = 0
  and {{ belongs }}
  and {{ where }}
