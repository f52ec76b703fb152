-- Times are microseconds since the epoch. Ids come from relay/store/ids.py and grow with time, so every table
-- is appended to at its right edge. States are the numbers of relay/mail/lifecycle.py.

CREATE TABLE message (
  id INTEGER PRIMARY KEY,
  account TEXT NOT NULL,
  username TEXT NOT NULL,
  reverse_path TEXT,               -- NULL: the null sender <>
  options TEXT NOT NULL,           -- JSON object: ret, envid, body_8bit, smtputf8; '' when all are default
  size INTEGER NOT NULL,
  received_at INTEGER NOT NULL,
  client_message_id TEXT NOT NULL,
  tags TEXT NOT NULL               -- JSON array; '' when empty
) STRICT;

-- Gone once every recipient is terminal. content NULL: the bytes are a file of their own.
CREATE TABLE body (
  message INTEGER PRIMARY KEY,
  content BLOB
) STRICT;

-- Counting and finding them must not read the bodies beside them.
CREATE INDEX body_unfinished ON body (message);
CREATE INDEX body_file ON body (message) WHERE content IS NULL;

CREATE TABLE recipient (
  message INTEGER NOT NULL,
  n INTEGER NOT NULL,
  address TEXT NOT NULL,
  notify TEXT NOT NULL,
  orcpt TEXT,
  state INTEGER NOT NULL,
  attempts INTEGER NOT NULL,
  next_at INTEGER NOT NULL,
  reply TEXT NOT NULL,
  remote_id TEXT NOT NULL,
  PRIMARY KEY (message, n)
) STRICT, WITHOUT ROWID;

CREATE INDEX recipient_due ON recipient (next_at, state) WHERE state < 2;  -- state: for counting
CREATE INDEX recipient_held ON recipient (message) WHERE state = 2;

CREATE TABLE attempt (
  message INTEGER NOT NULL,
  id INTEGER NOT NULL,
  recipients TEXT NOT NULL,        -- JSON array of n
  transport TEXT NOT NULL,
  destination TEXT NOT NULL,
  started_at INTEGER NOT NULL,
  ended_at INTEGER,                -- NULL: under way, or interrupted by a crash
  host TEXT NOT NULL DEFAULT '',
  tls TEXT NOT NULL DEFAULT '',
  PRIMARY KEY (message, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX attempt_open ON attempt (message, id) WHERE ended_at IS NULL;

CREATE TABLE event (
  message INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  at INTEGER NOT NULL,
  n INTEGER NOT NULL,              -- -1: the whole message
  kind TEXT NOT NULL,
  reply TEXT NOT NULL,
  PRIMARY KEY (message, seq)
) STRICT, WITHOUT ROWID;
