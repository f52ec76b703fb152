"""DKIM: keys on disk, signatures for what leaves, and the DNS records that make them count."""
