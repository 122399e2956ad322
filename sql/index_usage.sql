-- Calls that were answered with the help of an index, by hour: which index, and which embedding model their queries came
-- from. Calls that name neither are left out.
select index_id, embedding_model_version as version, ts_us - ts_us % 3600000000 as hour_us,
  count(*) as calls, min(ts_us) as first_us, max(ts_us) as last_us
from {{ interaction }} i
where i.file_id <= $max_file and i.ts_us <= $as_of
  and (i.index_id is not null or i.embedding_model_version is not null)
  and (i.operation is null or i.operation in ('chat', 'text_completion', 'generate_content'))
  and ($surface is null or i.surface = $surface)
group by index_id, embedding_model_version, ts_us - ts_us % 3600000000
