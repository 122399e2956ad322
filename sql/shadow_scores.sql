-- Names of scores, by who gave them.
select s.name, s.scorer_kind, count(*) as n
from score s
where s.file_id <= $max_file and coalesce(s.updated_us, s.ts_us) <= $as_of and s.value is not null
group by s.name, s.scorer_kind
