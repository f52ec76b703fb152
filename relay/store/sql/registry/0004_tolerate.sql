-- What clients of this credential may do wrong: a JSON list of words of `listener.tolerate`.
ALTER TABLE credential ADD COLUMN tolerate TEXT NOT NULL DEFAULT '[]';
