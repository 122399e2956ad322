-- Units by what humans and the judge said of their answers, on average: of the answers with both, else of all that were judged.
-- label is NULL for units without a human label.
select u.arm, case when u.labelled > 0 then cast(floor(u.label_sum / nullif(u.labelled, 0)) as bigint) end as label,
  cast(floor(case when u.labelled > 0 then u.beside_label / nullif(u.labelled, 0) else u.judged_sum / nullif(u.judged, 0) end) as bigint) as judged,
  count(*) as units
from (
  select l.unit_id, l.arm, count(l.human) as labelled, count(*) as judged, coalesce(sum(l.human), 0) as label_sum,
    coalesce(sum(case when l.human is not null then l.judge else 0 end), 0) as beside_label, sum(l.judge) as judged_sum
  from (
{{ rows }}
  ) l
  where l.judge is not null
  group by l.unit_id, l.arm
) u
group by u.arm, case when u.labelled > 0 then cast(floor(u.label_sum / nullif(u.labelled, 0)) as bigint) end,
  cast(floor(case when u.labelled > 0 then u.beside_label / nullif(u.labelled, 0) else u.judged_sum / nullif(u.judged, 0) end) as bigint)
