"""The way out: what is due, by which route, signed how, with what result. Meets intake only in the spool."""
