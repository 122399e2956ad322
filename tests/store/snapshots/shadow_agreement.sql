-- $control = "baseline"
-- $treatment = "candidate"
-- How often both arms' answers say the same, of the pairs in which both can tell; the first answer of each arm is compared.
with head as (
  select h.pair_key, h.unit_key, h.arm, h.interaction_id, h.finish_reason, h.refused, h.format_ok, h.is_error
  from (
    select a.*, row_number() over (partition by a.pair_key, a.unit_key, a.arm order by a.silent, a.nth) as place
    from shadow_answer a
  ) h
  where h.place = 1
)
select
  count(c.refused + t.refused) as refused_known, coalesce(sum(case when c.refused = t.refused then 1 else 0 end), 0) as refused_same,
  count(c.format_ok + t.format_ok) as format_ok_known,
  coalesce(sum(case when c.format_ok = t.format_ok then 1 else 0 end), 0) as format_ok_same,
  count(c.is_error + t.is_error) as is_error_known, coalesce(sum(case when c.is_error = t.is_error then 1 else 0 end), 0) as is_error_same,
  count(case when t.finish_reason is not null then c.finish_reason end) as finish_reason_known,
  coalesce(sum(case when c.finish_reason = t.finish_reason then 1 else 0 end), 0) as finish_reason_same,
  count(case when xt.response_text is not null then xc.response_text end) as response_known,
  coalesce(sum(case when xc.response_text = xt.response_text then 1 else 0 end), 0) as response_same
from shadow_pair p
join head c on c.pair_key = p.pair_key and c.unit_key = p.unit_id and c.arm = $control
join head t on t.pair_key = p.pair_key and t.unit_key is not distinct from p.unit_t and t.arm = $treatment
left join shadow_text xc on xc.interaction_id = c.interaction_id
left join shadow_text xt on xt.interaction_id = t.interaction_id
where p.counted = 1
