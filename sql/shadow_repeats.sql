-- The repeated answers of one model to one request, for one metric: how many, their sum and the sum of their squares.
  select {{ metric }} as metric, v.arm, v.pair_key, v.unit_key, v.model, count(*) as answers,
    cast(sum(v.value) as decimal(38,0)) as total, cast(sum(cast(v.value as decimal(38,0)) * v.value) as decimal(38,0)) as squares
  from (
    select a.arm, a.pair_key, a.unit_key, a.model, {{ value }} as value
    from shadow_answer a
    where {{ known }}
  ) v
  group by v.arm, v.pair_key, v.unit_key, v.model
  having count(*) > 1
