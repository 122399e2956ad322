-- The calls for counting versions: of a call that several sources have logged, the one row that stands for it.
(
  select {{ columns }}, file_id
  from interaction x
  where not exists (
      select 1 from twin w where w.interaction_id = x.interaction_id and w.file_id <= $max_file and w.until_file > $max_file
    )
  union all
  select {{ columns }}, file_id
  from merged_interaction
  where file_id <= $max_file and until_file > $max_file
)
