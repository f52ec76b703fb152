"""Sendrelay: an SMTP relay server with an API bridge."""

__version__ = "0.1.0"
