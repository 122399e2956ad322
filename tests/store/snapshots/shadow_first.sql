-- $until = 17
-- Each unit's first pair that both can tell of, for tests that bet once a unit: units by their difference, as a whole number.
select f.difference, count(*) as units
from (
  select p.unit_id, p.a0 - p.c0 as difference,
    row_number() over (partition by p.unit_id order by p.ts_us, p.pair_key) as nth
  from shadow_pair p
  where p.counted = 1 and p.b0 is not null
    and p.unit_id in (select u.unit_id from shadow_unit u where u.first_us > $until)
) f
where f.nth = 1
group by f.difference
