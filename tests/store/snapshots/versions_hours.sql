-- All calls by hour: how many can tell of a signal, and in how many it was.
select hour as bucket, cast(sum(n0) as bigint) as n0, cast(sum(k0) as bigint) as k0, cast(sum(n1) as bigint) as n1, cast(sum(k1) as bigint) as k1, cast(sum(n2) as bigint) as n2, cast(sum(k2) as bigint) as k2, cast(sum(n3) as bigint) as n3, cast(sum(k3) as bigint) as k3, cast(sum(n4) as bigint) as n4, cast(sum(k4) as bigint) as k4, cast(sum(n5) as bigint) as n5, cast(sum(k5) as bigint) as k5
from version_unit_hour
group by hour
