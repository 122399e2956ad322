-- $control = "baseline"
-- $treatment = "candidate"
-- Why there may be no pairs: requests with an answer of each arm, and requests answered for somebody by control.
select count(distinct case when s.arm = $treatment then s.pair_key end) as treatment_requests,
  count(distinct case when s.arm = $control then s.pair_key end) as control_requests,
  count(distinct case when s.arm = $control and s.unseen = 0 then s.pair_key end) as seen_requests
from shadow_side s
