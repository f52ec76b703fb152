-- From -9 to 9 (RFC 6710). What is urgent is found without walking along everything that is due.
ALTER TABLE recipient ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
CREATE INDEX recipient_urgent ON recipient (next_at) WHERE state < 2 AND priority > 0;
