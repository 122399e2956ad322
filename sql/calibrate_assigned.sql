-- Everybody in control, always: stands for `assigned` where a policy is replayed over calls from before its experiment.
select unit_id, $control as variant, 0 as by_default, cast(0 as bigint) as from_us, cast(null as bigint) as until_us
from (
  select distinct {{ unit }} as unit_id
  from {{ interaction }} i
  where i.exposed and i.file_id <= $max_file and i.ts_us >= $start and i.ts_us <= $as_of
) everybody
where unit_id is not null
