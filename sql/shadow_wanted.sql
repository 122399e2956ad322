-- The requests that the treatment answered without being seen, or that others answered too: only these can be pairs. Requests of
-- control whose answer was repeated are wanted as well, for the noise floor.
select distinct k.pair_key
from (
{{ calls }}
) k
where (k.arm = $treatment and (k.silent = 1{{ replayed }})) or (k.repeated = 1 and k.arm in ($control, $treatment))
