-- Calls by what they ran (the manifest) and where, with the first and the last of each.
select {{ keys }}, count(*) as calls, min(i.ts_us) as first_us, max(i.ts_us) as last_us
from {{ interaction }} i
where i.file_id > $since and i.file_id <= $max_file
  and i.ts_us >= $start and i.ts_us <= $as_of{{ more }}
group by {{ keys_of }}
