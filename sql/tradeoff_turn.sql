-- Answers in the asked-for format by technique and turn of the conversation; turns from the sixth on together.
select arm, case when turn < 6 then turn else 6 end as turn, cast(sum({{ told }}) as bigint) as answers,
  cast(sum({{ valid }}) as bigint) as valid
from tradeoff_request
where arm in ({{ arms }}) and turn is not null
group by arm, case when turn < 6 then turn else 6 end
