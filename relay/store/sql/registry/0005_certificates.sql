-- Names of client certificates, and the credential each stands for: `sha256:HEX`, `email:`, `dns:`, `uri:`, `subject:`.

CREATE TABLE certificate (
    name       TEXT NOT NULL PRIMARY KEY CHECK (instr(name, ':') > 1 AND length(name) <= 1024),
    username   TEXT NOT NULL REFERENCES credential (username),
    created_at REAL NOT NULL
) STRICT, WITHOUT ROWID;
