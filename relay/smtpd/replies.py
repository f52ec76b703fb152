"""Replies of the dialogue that never vary. Source: RFC 5321 §4.2, RFC 3463."""

from __future__ import annotations

from relay.mail.reply import reply

OK = reply(250, "2.0.0", "Ok")
BYE = reply(221, "2.0.0", "Bye")
READY_FOR_TLS = reply(220, "2.0.0", "Ready to start TLS")
AUTHENTICATED = reply(235, "2.7.0", "Authentication successful")
HELP = reply(214, "2.0.0", "EHLO HELO MAIL RCPT DATA RSET NOOP QUIT VRFY HELP STARTTLS AUTH")
# RFC 5321 §7.3: neither confirm nor deny.
VRFY = reply(252, "2.5.0", "Cannot verify the user; send the message and see")
NO_EXPN = reply(502, "5.5.1", "EXPN is not supported")

NO_SPACE = reply(452, "4.3.1", "Insufficient system storage, try again later")
NO_MEMORY = reply(452, "4.3.1", "Too much mail in flight, try again later")
TOO_MANY_RECIPIENTS = reply(452, "4.5.3", "Too many recipients, send the rest in another transaction")
TOO_MANY_ERRORS = reply(421, "4.7.0", "Too many errors, closing")
TOO_MANY_FAILURES = reply(421, "4.7.0", "Too many failed authentications, closing")

UNKNOWN = reply(500, "5.5.2", "Command not recognized")
LINE_TOO_LONG = reply(500, "5.5.2", "Line too long")
BARE_LF = reply(500, "5.5.2", "Line must end with CRLF, not with a bare LF")
NAME_YOURSELF = reply(501, "5.5.4", "Say your host name: EHLO client.example")
STARTTLS_ARGUMENT = reply(501, "5.5.4", "STARTTLS takes no argument")
DATA_ARGUMENT = reply(501, "5.5.4", "DATA takes no argument")
CANCELLED = reply(501, "5.7.0", "Authentication cancelled")
NO_STARTTLS = reply(502, "5.5.1", "STARTTLS is not offered here")
BAD_SEQUENCE = reply(503, "5.5.1", "Bad sequence of commands")
HELO_FIRST = reply(503, "5.5.1", "Send HELO or EHLO first")
MAIL_FIRST = reply(503, "5.5.1", "Send MAIL first")
NESTED_MAIL = reply(503, "5.5.1", "Nested MAIL command")
TLS_ALREADY = reply(503, "5.5.1", "TLS is already active")
TLS_FIRST = reply(538, "5.7.11", "Encryption required: send STARTTLS first")
NO_POSTMASTER = reply(550, "5.1.1", "No postmaster without a domain here; write postmaster@ and a domain of this host")
TOO_BIG = reply(552, "5.3.4", "Message is larger than the SIZE this server announces")
NO_RECIPIENTS = reply(554, "5.5.1", "No valid recipients")
NOT_SMTP = reply(554, "5.5.1", "This is an SMTP server, closing")
INJECTED = reply(554, "5.5.1", "Commands sent before the TLS handshake, closing")
