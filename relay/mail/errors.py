"""The exception tree. What a peer said or is told is never here: that is a Reply or an Outcome.

RelayError
+-- OperatorError            something an operator must fix; `str()` is one line with the fix in it
|   +-- SettingsError        a file, a key, a value
|   +-- StoreError           a spool or registry that cannot be opened or written
+-- AddressSyntaxError       a string that is no envelope address
+-- MessageSyntaxError       bytes that are no message we can take apart
+-- DnsTemporaryError        SERVFAIL, time-out, bogus: ask again later
"""

from __future__ import annotations


class RelayError(Exception):
    """Root of everything the project raises on purpose."""


class OperatorError(RelayError):
    """An operator has to change something; the message names it and the fix, in one line.

    Texts quote files and keys; whatever those hold, it stays one line and steers no terminal.
    """

    def __str__(self) -> str:
        text = super().__str__()
        return text if text.isprintable() else "".join(map(_shown, text))


def _shown(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")


class SettingsError(OperatorError):
    """A configuration file, key or value is wrong."""


class StoreError(OperatorError):
    """A spool or registry cannot be opened, locked or written."""


class AddressSyntaxError(RelayError, ValueError):
    """Not an envelope address; the text is fit for an SMTP reply."""


class MessageSyntaxError(RelayError, ValueError):
    """Not a message that can be taken apart; the text says why."""


class DirectiveError(RelayError, ValueError):
    """A header field asks for something that cannot be done; the text names field and fix, fit for an SMTP reply."""


class DnsTemporaryError(RelayError):
    """DNS gave no answer (time-out, SERVFAIL, bogus); unknown means temporary."""


class AuthUnavailableError(RelayError):
    """What a login has to be checked against cannot be had just now; the client may try again."""


class AuthBusyError(RelayError):
    """Too many passwords are being checked at once; the client may try again."""
