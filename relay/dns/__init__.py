"""DNS: questions to a recursive resolver, and the MX hosts of a domain."""
