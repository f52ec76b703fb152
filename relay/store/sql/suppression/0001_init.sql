-- Addresses an account does not write to any more. `address` is as relay.mail.address.comparable makes it.

CREATE TABLE suppression (
    account    TEXT NOT NULL,
    address    TEXT NOT NULL,
    reason     TEXT NOT NULL CHECK (reason IN ('bounce', 'complaint', 'manual')),
    words      TEXT NOT NULL DEFAULT '',
    created_at REAL NOT NULL,
    expires_at REAL,
    PRIMARY KEY (account, address)
) STRICT, WITHOUT ROWID;
