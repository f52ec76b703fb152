"""Seeing: one log line a business fact, and metrics whose every label is bounded."""
