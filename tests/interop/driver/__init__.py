"""Drives real mail programs against a running sandbox and checks at the far end what arrived."""
