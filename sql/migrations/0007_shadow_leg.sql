-- A row that a gateway logged for the silent leg of a mirrored request, without a mark of its own: what stands for it in
-- merged_interaction says that nobody saw it. leg_request: the request that it shares with its primary; NULL: no leg.
ALTER TABLE twin ADD COLUMN leg_request VARCHAR;
