-- Sums and products over units of what the treatment (a, b) and control (c, d) added up: numerators and denominators.
select count(*) as units, cast(coalesce(sum(u.pairs), 0) as decimal(38,0)) as pairs{{ products }}
from {{ units }} u
