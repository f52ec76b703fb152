"""CredentialAuthenticator: a user name and a password in, a Login or None out.

Resolves the name through the port CredentialSource, checks the password by PasswordVerifier. Unknown, disabled and
wrong take the same path and the same work. Raises AuthBusyError when a password cannot be checked just now.
"""

from __future__ import annotations

from relay.auth.passwords import PasswordVerifier
from relay.mail.session import Login
from relay.ports import Clock, CredentialSource


class CredentialAuthenticator:
    """The port Authenticator. The Login carries the stored user name, whichever form the client used."""

    def __init__(self, source: CredentialSource, passwords: PasswordVerifier, clock: Clock) -> None:
        self._source = source
        self._passwords = passwords
        self._clock = clock

    async def verify(self, username: str, password: str) -> Login | None:
        """See the port. What was disabled or rotated away while its password was being checked does not get in."""
        while True:
            credential = self._source.find_credential(username)
            hashes = credential.hashes_at(self._clock.now()) if credential else ()
            if not await self._passwords.verify(username, password, hashes) or credential is None:
                return None
            # Changed meanwhile: ask again, which costs nothing where the same hash still counts.
            if self._source.find_credential(username) == credential:
                return Login(credential.account, credential.username, credential.rights)

    def still_valid(self, login: Login) -> bool:
        """See the port. A rotated password ends no session: who has it was let in before."""
        credential = self._source.find_credential(login.username)
        return credential is not None and (credential.account, credential.rights) == (login.account, login.rights)
