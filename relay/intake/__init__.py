"""The single gate: every door hands its messages here, and nothing else writes new mail to the spool."""
