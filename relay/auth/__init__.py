"""Who may come in: SMTP credentials and API keys, read through ports, checked in constant work."""
