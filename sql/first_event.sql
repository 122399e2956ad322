-- One row per arm, stage and hour: units with their first event of the whole experiment (event*), and what units still
-- event-free contributed to the denominator (risk*). A unit counts once, in the stage of its first event.
with first_seen as (
  select unit_id{{ firsts }}
  from unit_step
  group by unit_id
)
select u.arm, u.stage, u.bucket{{ counts }}
from unit_step u
join first_seen f on f.unit_id = u.unit_id
group by u.arm, u.stage, u.bucket
order by u.arm, u.stage, u.bucket
