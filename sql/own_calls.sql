-- The calls of some experiments, with the columns that their analyses read: kept once, so that the many readings of an analysis
-- do not each go through all the logs. Of an experiment whose older calls are known only those that are newer are wanted.
select {{ columns }}
from {{ interaction }} i
where i.exposed
  and i.file_id <= $max_file
  and i.ts_us <= $as_of
  and ({{ wanted }}){{ order }}
