-- $control = "baseline"
-- $treatment = "candidate"
-- What the answers of the pairs ran, by arm.
select a.arm, a."model", a."prompt_name", a."prompt_version", a."prompt_sha256", a."embedding_model_version", a."index_id", a."ruleset_version", count(*) as calls
from shadow_answer a
join shadow_pair p on p.pair_key = a.pair_key
where p.counted = 1
  and ((a.arm = $control and a.unit_key = p.unit_id) or (a.arm = $treatment and a.unit_key is not distinct from p.unit_t))
group by a.arm, a."model", a."prompt_name", a."prompt_version", a."prompt_sha256", a."embedding_model_version", a."index_id", a."ruleset_version"
