-- $as_of = 1794000000000000
-- $max_file = 7
-- $score_0 = "helpfulness"
-- $scorer_0 = "judge"
-- The scores of every interaction, added up by metric. Of several scores of one name and scorer the latest counts.
select interaction_id,
    cast(sum(case when name = $score_0 and scorer_kind = $scorer_0 then cast(case when abs((value) * 1000000e0) >= 4503599627370496e0 then (value) * 1000000e0 when (value) * 1000000e0 < 0 then (value) * 1000000e0 - 4503599627370496e0 + 4503599627370496e0 else (value) * 1000000e0 + 4503599627370496e0 - 4503599627370496e0 end as bigint) else 0 end) as bigint) as sx6,
    cast(sum(case when name = $score_0 and scorer_kind = $scorer_0 then 1 else 0 end) as bigint) as sy6
from (
  select t.interaction_id, s.name, s.scorer_kind, s.value,
    row_number() over (
      partition by t.interaction_id, s.name, s.scorer_kind, s.scorer_id
      order by coalesce(s.updated_us, s.ts_us) desc, case when s.updated_us is null then 0 else 1 end desc, s.score_id desc,
        case when s.value is null then 0 else 1 end desc, s.value desc
    ) as recency
  from score s
  join (
    select t.score_id, coalesce(w.merged_id, t.interaction_id) as interaction_id, t.file_id, t.until_file
    from score_target t
    left join twin w on w.interaction_id = t.interaction_id and w.file_id <= $max_file and w.until_file > $max_file
  ) t on t.score_id = s.score_id
  where s.file_id <= $max_file and t.file_id <= $max_file and t.until_file > $max_file and coalesce(s.updated_us, s.ts_us) <= $as_of
    and s.name in ($score_0)
) ranked
where recency = 1 and value is not null
group by interaction_id
