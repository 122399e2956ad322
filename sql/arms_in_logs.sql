-- How many calls and assignments of an experiment name one of its arms.
select count(*) as n
from (
  select variant from interaction where experiment_id = $experiment and file_id <= $max_file and ts_us <= $as_of
  union all
  select variant from assignment where experiment_id = $experiment and file_id <= $max_file and ts_us <= $as_of
) named
where variant in ({{ arms }})
