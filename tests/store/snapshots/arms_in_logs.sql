-- $arm_0 = "baseline"
-- $arm_1 = "candidate"
-- $as_of = 1794000000000000
-- $experiment = "sonnet-swap"
-- $max_file = 7
-- How many calls and assignments of an experiment name one of its arms.
select count(*) as n
from (
  select variant from interaction where experiment_id = $experiment and file_id <= $max_file and ts_us <= $as_of
  union all
  select variant from assignment where experiment_id = $experiment and file_id <= $max_file and ts_us <= $as_of
) named
where variant in ($arm_0, $arm_1)
