-- The kept counts of whole hours, added up.
select {{ keys }}, cast(sum(v.calls) as bigint) as calls, min(v.first_us) as first_us, max(v.last_us) as last_us
from version_hour v
where v.hour >= $from_hour and v.hour < $hour{{ more }}
group by {{ keys_of }}
