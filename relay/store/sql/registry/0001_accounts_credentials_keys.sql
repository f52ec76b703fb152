-- Accounts (tenants), their SMTP credentials and API keys. Times are seconds since the epoch.
-- `disabled_at` is NULL while enabled. Lists are JSON arrays of strings.

CREATE TABLE account (
    id           TEXT NOT NULL PRIMARY KEY
                 CHECK (id GLOB '[a-z0-9]*' AND id NOT GLOB '*[^a-z0-9._-]*' AND length(id) <= 63),
    display_name TEXT NOT NULL,
    created_at   REAL NOT NULL,
    disabled_at  REAL
) STRICT, WITHOUT ROWID;

CREATE TABLE credential (
    username         TEXT NOT NULL PRIMARY KEY CHECK (username = lower(username) AND length(username) <= 255),
    account          TEXT NOT NULL REFERENCES account (id),
    password_hash    TEXT NOT NULL CHECK (password_hash GLOB '$argon2id$*'),
    -- The password before the last rotation, good until old_hash_until. Both or neither.
    old_hash         TEXT CHECK (old_hash GLOB '$argon2id$*'),
    old_hash_until   REAL,
    sender_addresses TEXT NOT NULL CHECK (json_type(sender_addresses) = 'array'),
    sender_domains   TEXT NOT NULL CHECK (json_type(sender_domains) = 'array'),
    note             TEXT NOT NULL,
    created_at       REAL NOT NULL,
    rotated_at       REAL,
    disabled_at      REAL,
    CHECK ((old_hash IS NULL) = (old_hash_until IS NULL))
) STRICT, WITHOUT ROWID;

CREATE INDEX credential_account ON credential (account);

CREATE TABLE api_key (
    id               TEXT NOT NULL PRIMARY KEY CHECK (length(id) BETWEEN 8 AND 63),
    account          TEXT NOT NULL REFERENCES account (id),
    key_hash         BLOB NOT NULL CHECK (length(key_hash) = 32),
    scopes           TEXT NOT NULL CHECK (json_type(scopes) = 'array'),
    sender_addresses TEXT NOT NULL CHECK (json_type(sender_addresses) = 'array'),
    sender_domains   TEXT NOT NULL CHECK (json_type(sender_domains) = 'array'),
    note             TEXT NOT NULL,
    created_at       REAL NOT NULL,
    disabled_at      REAL
) STRICT, WITHOUT ROWID;

CREATE INDEX api_key_account ON api_key (account);
