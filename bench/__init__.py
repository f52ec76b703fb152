"""The duel: the relay against a real Postfix on this machine, end to end over loopback."""
