-- Units in the hour of their first call, and in no other, by what a signal was in their calls.
select hour, n{{ j }} as n, k{{ j }} as k, count(*) as units
from version_unit_hour
where hour = first_hour and n{{ j }} > 0
group by hour, n{{ j }}, k{{ j }}
