-- $as_of = 1794000000000000
-- $experiment = "sonnet-swap"
-- $max_file = 7
-- The newest recorded look of each kind at each index, as it was known at a watermark; one without an index or an experiment
-- concerns all of them.
select kind, index_id, experiment, as_of_us, file_id, exit_code, body
from (
  select kind, index_id, experiment, as_of_us, file_id, exit_code, body,
    row_number() over (partition by kind, index_id, experiment order by as_of_us desc, file_id desc) as newest
  from index_check
  where as_of_us <= $as_of and file_id <= $max_file and (experiment is null or experiment = $experiment)
) checks
where newest = 1
order by kind, index_id, experiment, file_id
