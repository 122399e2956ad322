-- The scores of past calls as they stood when the unit met the experiment (a part of history.sql).
judged as (
  select interaction_id, name, scorer_kind, value
  from (
    select t.interaction_id, s.name, s.scorer_kind, s.value,
      row_number() over (
        partition by t.interaction_id, s.name, s.scorer_kind, s.scorer_id
        order by coalesce(s.updated_us, s.ts_us) desc, case when s.updated_us is null then 0 else 1 end desc, s.score_id desc,
          case when s.value is null then 0 else 1 end desc, s.value desc
      ) as recency
    from past p
    join {{ score_target }} t on t.interaction_id = p.interaction_id
    join score s on s.score_id = t.score_id
    where s.file_id <= $max_file and t.file_id <= $max_file and t.until_file > $max_file and coalesce(s.updated_us, s.ts_us) < p.met_us
  ) ranked
  where recency = 1 and value is not null
),
scored as (
  select interaction_id{{ score_sums }}
  from judged
  group by interaction_id
),
