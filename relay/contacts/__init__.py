"""Contacts: the engine that tells marketing platforms of recipients; it meets the mail only in the spool."""
