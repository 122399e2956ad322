-- Stores the staged assignments that are new.
INSERT INTO assignment (
    experiment_id, unit_id, variant, ts_us, reason, ruleset_version, provider, source, file_id
)
SELECT
    s.experiment_id, s.unit_id, s.variant, s.ts_us, s.reason, s.ruleset_version, s.provider, s.source, s.file_id
FROM load_assignment s
WHERE NOT EXISTS (SELECT 1 FROM load_known k WHERE k.pos = s.rowid)
