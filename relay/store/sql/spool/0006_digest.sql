-- What a client sent, by which a repetition is known; empty where it is not looked for.
ALTER TABLE message ADD COLUMN digest BLOB NOT NULL DEFAULT x'';
