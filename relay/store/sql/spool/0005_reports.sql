-- What a provider calls a message, by which its callbacks find the recipient.
CREATE INDEX recipient_remote ON recipient (remote_id) WHERE remote_id <> '';

-- Callbacks that were taken, so that a repetition is known.
CREATE TABLE report (
  digest BLOB PRIMARY KEY,
  at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX report_age ON report (at);
