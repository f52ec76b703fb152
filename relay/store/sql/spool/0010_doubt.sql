-- An attempt whose answer was lost, and what was learnt by asking (JSON, relay/store/doubts.py); '' for none. Who has one
-- is not sent to before it is settled.
ALTER TABLE recipient ADD COLUMN doubt TEXT NOT NULL DEFAULT '';

-- 1: nothing was sent; the next hop was asked what became of an earlier attempt.
ALTER TABLE attempt ADD COLUMN asks INTEGER NOT NULL DEFAULT 0;
