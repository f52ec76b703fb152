"""Checks of what a stranger sends: one file a question."""
