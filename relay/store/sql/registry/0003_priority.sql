-- The highest MT-PRIORITY (RFC 6710) mail of this credential may ask for.
ALTER TABLE credential ADD COLUMN priority INTEGER NOT NULL DEFAULT 0 CHECK (priority BETWEEN 0 AND 9);
