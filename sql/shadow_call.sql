-- Calls as the shadow stage sees them, silent ones too: whose, which arm, which request, the how many-th answer to it.
select {{ columns }}
from {{ interaction }} i{{ joins }}
where i.file_id <= $max_file and i.ts_us <= $as_of
  and (i.operation is null or i.operation in ('chat', 'text_completion', 'generate_content')){{ belongs }}{{ more }}
