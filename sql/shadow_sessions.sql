-- Control's sessions while requests were mirrored: how many had a request mirrored, and of those with several requests how
-- many had only a part of them mirrored.
select count(*) as sessions, coalesce(sum(case when s.mirrored > 0 then 1 else 0 end), 0) as mirrored,
  coalesce(sum(case when s.mirrored > 0 and s.requests > 1 then 1 else 0 end), 0) as several,
  coalesce(sum(case when s.mirrored > 0 and s.mirrored < s.requests then 1 else 0 end), 0) as partly,
  coalesce(sum(s.requests), 0) as requests, coalesce(sum(s.mirrored), 0) as mirrored_requests
from (
  select q.session_key, count(*) as requests, sum(q.mirrored) as mirrored
  from (
    select k.session_key, k.pair_key,
      max(case when k.pair_key in (select p.pair_key from shadow_pair p) then 1 else 0 end) as mirrored
    from (
{{ calls }}
    ) k
    where k.arm = $control and k.silent = 0 and k.in_population = 1 and k.ts_us >= $first and k.ts_us <= $last
      and k.session_key is not null
    group by k.session_key, k.pair_key
  ) q
  group by q.session_key
) s
