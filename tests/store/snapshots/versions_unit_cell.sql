-- Units in the hour of their first call, and in no other, by what a signal was in their calls.
select hour, n3 as n, k3 as k, count(*) as units
from version_unit_hour
where hour = first_hour and n3 > 0
group by hour, n3, k3
