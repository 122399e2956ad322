-- The rows of unit_total that are evidence: randomised, in an arm of the spec, by units that saw one arm in the stage.
select u.unit_id, u.arm, u.stage, u.calls, u.requests, u.arrived_us{{ columns }}
from {{ totals }} u{{ joins }}
where not u.not_randomised and u.arm in ({{ arms }}){{ clean }}
