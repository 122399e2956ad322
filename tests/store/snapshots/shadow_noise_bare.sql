-- $common = 6
-- Repeated answers of one model to one request: by how many answers there are, how many such requests, and the sum of
-- k * (sum of squares) - (square of the sum), which is k * (k - 1) times the variance within a request.
select g.metric, g.arm, g.answers, count(*) as requests,
  cast(sum(g.answers * g.squares - g.total * g.total) as decimal(38,0)) as spread
from (
-- The repeated answers of one model to one request, for one metric: how many, their sum and the sum of their squares.
  select 0 as metric, v.arm, v.pair_key, v.unit_key, v.model, count(*) as answers,
    cast(sum(v.value) as decimal(38,0)) as total, cast(sum(cast(v.value as decimal(38,0)) * v.value) as decimal(38,0)) as squares
  from (
    select a.arm, a.pair_key, a.unit_key, a.model, a.x0 * cast(floor($common / nullif(a.y0, 0)) as bigint) as value
    from shadow_answer a
    where a.y0 > 0
  ) v
  group by v.arm, v.pair_key, v.unit_key, v.model
  having count(*) > 1
) g
group by g.metric, g.arm, g.answers
