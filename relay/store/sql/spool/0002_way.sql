-- The candidate an operator chose for a recipient (`relay queue reroute`); '' for the one its route names.
ALTER TABLE recipient ADD COLUMN via TEXT NOT NULL DEFAULT '';
