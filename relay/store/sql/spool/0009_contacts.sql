-- What a marketing platform has yet to hear of a person: one row each, whatever the number of events, so that a platform
-- that is down for a week costs no more than its contacts.
CREATE TABLE contact (
  name TEXT NOT NULL,              -- of [contacts.NAME]
  person TEXT NOT NULL,            -- the address as addresses compare
  address TEXT NOT NULL,
  facts TEXT NOT NULL,             -- JSON object: kind of event -> when it happened last
  erase INTEGER NOT NULL,          -- 1: everything known of the person goes first
  version INTEGER NOT NULL,        -- grows with every change
  since INTEGER NOT NULL,
  attempts INTEGER NOT NULL,
  due INTEGER,                     -- NULL: given up
  words TEXT NOT NULL,             -- why it was put off or given up
  PRIMARY KEY (name, person)
) STRICT, WITHOUT ROWID;

CREATE INDEX contact_due ON contact (name, due);
