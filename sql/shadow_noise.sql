-- Repeated answers of one model to one request: by how many answers there are, how many such requests, and the sum of
-- k * (sum of squares) - (square of the sum), which is k * (k - 1) times the variance within a request.
select g.metric, g.arm, g.answers, count(*) as requests,
  cast(sum(g.answers * g.squares - g.total * g.total) as decimal(38,0)) as spread
from (
{{ groups }}
) g
group by g.metric, g.arm, g.answers
