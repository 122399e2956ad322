-- $control = "baseline"
-- $cutoff = 1
-- Unit-level sums and products of every metric over the warm-up (see warm_up_histogram.sql).
with unit_sums as (
  select unit_id,
  cast(sum(x0) as bigint) as x0,
  cast(sum(y0) as bigint) as y0,
  cast(least(sum(x1), 1) as bigint) as x1,
  cast(least(sum(y1), 1) as bigint) as y1,
  cast(sum(x2) as bigint) as x2,
  cast(sum(y2) as bigint) as y2,
  cast(sum(x3) as bigint) as x3,
  cast(sum(y3) as bigint) as y3,
  cast(sum(x4) as bigint) as x4,
  cast(least(sum(y4), 1) as bigint) as y4,
  cast(sum(x6) as bigint) as x6,
  cast(sum(y6) as bigint) as y6
  from request
  where arm = $control and unit_id is not null and not not_randomised and ts_us <= $cutoff
  group by unit_id
)
select count(*) as units,
  cast(coalesce(sum(x0), 0) as decimal(38,0)) as x0,
  cast(coalesce(sum(y0), 0) as decimal(38,0)) as y0,
  cast(coalesce(sum(x1), 0) as decimal(38,0)) as x1,
  cast(coalesce(sum(y1), 0) as decimal(38,0)) as y1,
  cast(coalesce(sum(x2), 0) as decimal(38,0)) as x2,
  cast(coalesce(sum(y2), 0) as decimal(38,0)) as y2,
  cast(coalesce(sum(x3), 0) as decimal(38,0)) as x3,
  cast(coalesce(sum(y3), 0) as decimal(38,0)) as y3,
  cast(coalesce(sum(x4), 0) as decimal(38,0)) as x4,
  cast(coalesce(sum(y4), 0) as decimal(38,0)) as y4,
  cast(coalesce(sum(x6), 0) as decimal(38,0)) as x6,
  cast(coalesce(sum(y6), 0) as decimal(38,0)) as y6,
  cast(coalesce(sum(cast(x0 as decimal(38,0)) * x0), 0) as decimal(38,0)) as xx0,
  cast(coalesce(sum(cast(x0 as decimal(38,0)) * y0), 0) as decimal(38,0)) as xy0,
  cast(coalesce(sum(cast(y0 as decimal(38,0)) * y0), 0) as decimal(38,0)) as yy0,
  cast(coalesce(sum(cast(x1 as decimal(38,0)) * x1), 0) as decimal(38,0)) as xx1,
  cast(coalesce(sum(cast(x1 as decimal(38,0)) * y1), 0) as decimal(38,0)) as xy1,
  cast(coalesce(sum(cast(y1 as decimal(38,0)) * y1), 0) as decimal(38,0)) as yy1,
  cast(coalesce(sum(cast(x2 as decimal(38,0)) * x2), 0) as decimal(38,0)) as xx2,
  cast(coalesce(sum(cast(x2 as decimal(38,0)) * y2), 0) as decimal(38,0)) as xy2,
  cast(coalesce(sum(cast(y2 as decimal(38,0)) * y2), 0) as decimal(38,0)) as yy2,
  cast(coalesce(sum(cast(x3 as decimal(38,0)) * x3), 0) as decimal(38,0)) as xx3,
  cast(coalesce(sum(cast(x3 as decimal(38,0)) * y3), 0) as decimal(38,0)) as xy3,
  cast(coalesce(sum(cast(y3 as decimal(38,0)) * y3), 0) as decimal(38,0)) as yy3,
  cast(coalesce(sum(cast(x4 as decimal(38,0)) * x4), 0) as decimal(38,0)) as xx4,
  cast(coalesce(sum(cast(x4 as decimal(38,0)) * y4), 0) as decimal(38,0)) as xy4,
  cast(coalesce(sum(cast(y4 as decimal(38,0)) * y4), 0) as decimal(38,0)) as yy4,
  cast(coalesce(sum(cast(x6 as decimal(38,0)) * x6), 0) as decimal(38,0)) as xx6,
  cast(coalesce(sum(cast(x6 as decimal(38,0)) * y6), 0) as decimal(38,0)) as xy6,
  cast(coalesce(sum(cast(y6 as decimal(38,0)) * y6), 0) as decimal(38,0)) as yy6
from unit_sums
