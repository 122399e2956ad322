-- Units whose old rows must be read again: they said something that changes them, came late, or are in several arms.
select unit_id from touched where recount = 1
union
select d.unit_id
from unit_delta d
join {{ state }} s on s.unit_id = d.unit_id
group by d.unit_id
having {{ late }}
union
select unit_id
from unit_merged
where not not_randomised and arm in ({{ arms }})
group by unit_id, stage
having min(arm) <> max(arm)
