-- One arm's human label and judge's score of every pair, or the differences between the arms.
    select p.unit_id, {{ arm }} as arm, {{ human }} as human, {{ judge }} as judge
    from shadow_pair p
    where p.counted = 1
