-- The candidate that took it and has yet to report on it; '' for none.
ALTER TABLE recipient ADD COLUMN awaits TEXT NOT NULL DEFAULT '';
