-- SCRAM verifiers of the passwords behind password_hash and old_hash, NULL until one was made; and what their salts are
-- made with, which nobody outside knows.

ALTER TABLE credential ADD COLUMN scram TEXT CHECK (scram GLOB 'SCRAM-SHA-256$*');
ALTER TABLE credential ADD COLUMN old_scram TEXT CHECK (old_scram GLOB 'SCRAM-SHA-256$*');

CREATE TABLE secret (
    name  TEXT NOT NULL PRIMARY KEY,
    value BLOB NOT NULL CHECK (length(value) >= 16)
) STRICT, WITHOUT ROWID;
