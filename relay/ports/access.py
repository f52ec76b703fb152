"""Checks of strangers, and who may log in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

from relay.mail.session import Login, SenderRights


@dataclass(frozen=True, slots=True)
class SpfResult:
    """RFC 7208 §2.6 result with a few words for Received-SPF and logs."""

    result: Literal["pass", "fail", "softfail", "neutral", "none", "temperror", "permerror"]
    explanation: str = ""


class SpfCheck(Protocol):
    async def check(self, ip: str, helo: str, reverse_path: str | None) -> SpfResult:
        """Never raises; DNS trouble is `temperror`."""
        ...


class Authenticator(Protocol):
    async def verify(self, username: str, password: str) -> Login | None:
        """The login, or None. Does the same work for an unknown user as for a wrong password.

        Raises AuthBusyError when the password cannot be checked just now.
        """
        ...

    def named(self, username: str) -> Login | None:
        """The login of an enabled credential whose password somebody trusted has checked. Never blocks."""
        ...

    def still_valid(self, login: Login) -> bool:
        """False once the credential behind an earlier login was disabled, or changed what it may do. Never blocks."""
        ...


@dataclass(frozen=True, slots=True)
class StoredCredential:
    """An enabled SMTP credential. Hashes are PHC strings; the old one counts until `old_hash_until` (epoch seconds).

    `scram` and `old_scram` are the SCRAM verifiers of the same passwords, empty where there is none yet.
    `tolerate`: what its clients may do wrong.
    """

    username: str
    account: str
    rights: SenderRights
    password_hash: str = field(repr=False)
    old_hash: str = field(default="", repr=False)
    old_hash_until: float = 0.0
    scram: str = field(default="", repr=False)
    old_scram: str = field(default="", repr=False)
    tolerate: tuple[str, ...] = ()

    @property
    def login(self) -> Login:
        """Of who has proved to have its password."""
        return Login(self.account, self.username, self.rights, self.tolerate)

    def hashes_at(self, now: float) -> tuple[str, ...]:
        """The hashes a password may match at `now`, newest first."""
        if self.old_hash and now < self.old_hash_until:
            return (self.password_hash, self.old_hash)
        return (self.password_hash,)

    def scram_at(self, now: float) -> tuple[str, ...]:
        """The SCRAM verifiers that count at `now`, newest first."""
        return (self.scram, self.old_scram) if now < self.old_hash_until else (self.scram,)


class CredentialSource(Protocol):
    def find_credential(self, login: str) -> StoredCredential | None:
        """The credential a login name means, or None: unknown, disabled, or of a disabled account. Never blocks."""
        ...


class AccountSource(CredentialSource, Protocol):
    """Credentials, and the accounts they are of. Never blocks."""

    def has_account(self, account: str) -> bool:
        """Whether there is an enabled account of that id."""
        ...


class ScramSource(CredentialSource, Protocol):
    """Credentials with what SCRAM needs of all of them. Never blocks."""

    def scram_kinds(self) -> frozenset[str]:
        """`SCRAM-SHA-256$<iterations>` of every enabled credential's verifier; `""` where one has none."""
        ...

    def scram_secret(self) -> bytes:
        """What salts are made with; empty while the registry is."""
        ...


@dataclass(frozen=True, slots=True)
class ScramParameters:
    """What a client derives its keys with."""

    salt: bytes
    iterations: int


@dataclass(frozen=True, slots=True)
class ScramProved:
    """A proof that held, and the server's own in return."""

    login: Login
    signature: bytes = field(repr=False)


class ScramBook(Protocol):
    def offered(self) -> bool:
        """Whether the credentials of this server can use SCRAM."""
        ...

    def parameters(self, username: str) -> ScramParameters:
        """Those of a name, known or not: the same answer every time, in every worker."""
        ...

    def prove(self, username: str, message: bytes, proof: bytes) -> ScramProved | None:
        """Check a ClientProof over an AuthMessage; the same work for an unknown name. Cheap enough for the loop."""
        ...


class TokenVerifier(Protocol):
    async def verify(self, token: str, username: str) -> Login | None:
        """The login a bearer token grants. `username` is whom the client names, empty where the token alone decides.

        Raises AuthUnavailableError when the token cannot be checked just now.
        """
        ...


class CertificateSource(CredentialSource, Protocol):
    def certificate_user(self, name: str) -> str | None:
        """The user name of the credential that a name of certificates stands for. Never blocks."""
        ...


class CertificateBook(Protocol):
    def known(self, certificate: bytes) -> bool:
        """Whether a verified certificate (DER, empty for none) stands for an enabled credential."""
        ...

    def login(self, certificate: bytes, username: str) -> Login | None:
        """The login of a verified certificate; `username` is as whom the client wants to act, mostly empty."""
        ...


class Fetcher(Protocol):
    async def get(self, url: str) -> bytes:
        """The body of a 200 over https, from a public address. Raises OSError, whose text says what happened."""
        ...


@dataclass(frozen=True, slots=True)
class StoredApiKey:
    """An enabled API key. `key_hash` is the SHA-256 of the whole key as the client shows it."""

    id: str
    account: str
    rights: SenderRights
    scopes: tuple[str, ...]
    key_hash: bytes = field(repr=False)


class ApiKeySource(Protocol):
    def find_api_key(self, key_id: str) -> StoredApiKey | None:
        """The key of that public id, or None: unknown, disabled, or of a disabled account. Never blocks."""
        ...
