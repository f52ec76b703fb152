"""CredentialAuthenticator: a user name and a password in, a Login or None out.

Resolves the name through the port AccountSource, checks the password by PasswordVerifier. Unknown, disabled and
wrong take the same path and the same work. Raises AuthBusyError when a password cannot be checked just now.
A password that was right is shown to `learn`, which may store what other mechanisms need of it.
"""

from __future__ import annotations

from collections.abc import Callable

from relay.auth.passwords import PasswordVerifier
from relay.mail.session import Login
from relay.ports import AccountSource, Clock, StoredCredential


class CredentialAuthenticator:
    """The port Authenticator. The Login carries the stored user name, whichever form the client used."""

    def __init__(
        self,
        source: AccountSource,
        passwords: PasswordVerifier,
        clock: Clock,
        learn: Callable[[StoredCredential, str], None] = lambda credential, password: None,
    ) -> None:
        self._source = source
        self._passwords = passwords
        self._clock = clock
        self._learn = learn

    async def verify(self, username: str, password: str) -> Login | None:
        """See the port. What was disabled or rotated away while its password was being checked does not get in."""
        while True:
            credential = self._source.find_credential(username)
            hashes = credential.hashes_at(self._clock.now()) if credential else ()
            fitting = await self._passwords.verify(username, password, hashes)
            if fitting is None or credential is None:
                return None
            # Changed meanwhile: ask again, which costs nothing where the same hash still counts.
            if self._source.find_credential(username) == credential:
                if fitting == credential.password_hash:
                    self._learn(credential, password)
                return credential.login

    def named(self, username: str) -> Login | None:
        """See the port."""
        credential = self._source.find_credential(username)
        return credential.login if credential else None

    def still_valid(self, login: Login) -> bool:
        """See the port. A rotated password ends no session: who has it was let in before."""
        if login.bound:
            return self._source.has_account(login.account)
        credential = self._source.find_credential(login.username)
        return credential is not None and (credential.account, credential.rights) == (login.account, login.rights)
