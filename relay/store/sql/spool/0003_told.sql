-- told: the sender was told that it waits.
ALTER TABLE recipient ADD COLUMN told INTEGER NOT NULL DEFAULT 0;
