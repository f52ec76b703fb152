"""Durable state: the spool (hot, one file a worker) and the registry (accounts, credentials, keys)."""
