-- The text of a message that ended with a recipient bounced or expired, kept for `spool.dead_letters` seconds.
CREATE TABLE dead (
  message INTEGER PRIMARY KEY,
  ended_at INTEGER NOT NULL,
  size INTEGER NOT NULL,
  again INTEGER,                   -- the message that was made of it, once
  content BLOB                     -- NULL: the bytes are a file of their own
) STRICT;

-- Walking along and adding up must not read the contents beside them.
CREATE INDEX dead_listing ON dead (message, ended_at, size, again);
CREATE INDEX dead_file ON dead (message) WHERE content IS NULL;
