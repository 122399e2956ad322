-- All calls by hour: how many can tell of a signal, and in how many it was.
select hour as bucket{{ sums }}
from version_unit_hour
group by hour
