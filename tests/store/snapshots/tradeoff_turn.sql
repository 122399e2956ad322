-- $arm_0 = "baseline"
-- $arm_1 = "candidate"
-- Answers in the asked-for format by technique and turn of the conversation; turns from the sixth on together.
select arm, case when turn < 6 then turn else 6 end as turn, cast(sum(y0) as bigint) as answers,
  cast(sum(x0) as bigint) as valid
from tradeoff_request
where arm in ($arm_0, $arm_1) and turn is not null
group by arm, case when turn < 6 then turn else 6 end
