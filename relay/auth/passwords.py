"""Passwords: Argon2id hashes, checked in a small executor with a short memory of results.

A hash costs 30 ms and 19 MiB, so it never runs in the loop, at most `queue` wait for one, and equal questions share one
answer. Beyond that AuthBusyError says "again later". What was proved is remembered for minutes under a keyed BLAKE2b of
user name and password, and only counts while the stored hash is the one it was proved against. An unknown user costs
the same derivation as a wrong password. No password is stored, logged or kept after its check.
Sources: RFC 9106 (Argon2), RFC 8265 §4.2 (preparation of passwords), RFC 4616 §2.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import re
import secrets
import unicodedata
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final, Generic, TypeVar

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from relay.mail.errors import AuthBusyError
from relay.ports import Clock

LONGEST_PASSWORD: Final = 1024  # octets
SHORTEST_PASSWORD: Final = 8  # characters, of one an operator chose
_GENERATED_LENGTH: Final = 24
_ALPHABET: Final = "abcdefghjkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"  # no 0 O o 1 l I i
_DIGEST: Final = 32
_SALT: Final = 16
_MOST_MEMORY: Final = 1_048_576  # KiB; a stored hash asking for more is damage
_PHC = re.compile(
    r"\$argon2id\$v=19\$m=(\d{1,7}),t=(\d{1,2}),p=(\d{1,2})\$([A-Za-z0-9+/]{11,64})\$([A-Za-z0-9+/]{22,86})\Z"
)

RandomBytes = Callable[[int], bytes]
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Cost:
    """Argon2id parameters: KiB of memory, passes, lanes. The default is OWASP's first choice, about 30 ms."""

    memory: int = 19_456
    passes: int = 2
    lanes: int = 1


DEFAULT_COST: Final = Cost()


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that goes into a digest but the password."""

    cost: Cost
    salt: bytes
    length: int = _DIGEST


@dataclass(frozen=True, slots=True)
class _Stored:
    recipe: Recipe
    digest: bytes
    phc: str


Derive = Callable[[Recipe, bytes], bytes]


def derive(recipe: Recipe, secret: bytes) -> bytes:
    """The Argon2id digest; gives up the interpreter lock while it works. Raises MemoryError."""
    cost = recipe.cost
    return Argon2id(
        salt=recipe.salt, length=recipe.length, iterations=cost.passes, lanes=cost.lanes, memory_cost=cost.memory
    ).derive(secret)


# --- setting a password ------------------------------------------------------------------------------------


def generate_password(choice: Callable[[str], str] = secrets.choice) -> str:
    """24 letters and digits without the ones people mix up: 138 bits."""
    return "".join(choice(_ALPHABET) for _ in range(_GENERATED_LENGTH))


def password_problem(password: str) -> str | None:
    """Why an operator's own password cannot be taken, in words that end in the fix; None when it can."""
    if len(password) < SHORTEST_PASSWORD:
        return f"the password is shorter than {SHORTEST_PASSWORD} characters; use a longer one"
    if prepare_password(password) is None:
        return f"the password is longer than {LONGEST_PASSWORD} octets or not Unicode text; use a shorter one"
    if any(unicodedata.category(character) == "Cc" for character in password):
        return "the password holds a control character; remove it (RFC 8265 §4.2)"
    return None


def prepare_password(password: str) -> bytes | None:
    """UTF-8 after NFC, every kind of space made U+0020 (RFC 8265 §4.2.2); None for what no password can be.

    Clients send the same `é` in one or two code points, by platform; case and everything else stay as typed.
    """
    if not password or len(password) > LONGEST_PASSWORD:
        return None
    if not password.isascii():
        spaced = "".join(" " if unicodedata.category(character) == "Zs" else character for character in password)
        password = unicodedata.normalize("NFC", spaced)
    try:
        secret = password.encode("utf-8")
    except UnicodeEncodeError:
        return None
    return secret if len(secret) <= LONGEST_PASSWORD else None


def hash_password(
    password: str,
    *,
    beside: str | None = None,
    cost: Cost = DEFAULT_COST,
    random_bytes: RandomBytes = secrets.token_bytes,
) -> str:
    """The PHC string to store. Raises ValueError for what `prepare_password` refuses.

    `beside` is a hash that stays valid together with the new one: they share the salt where costs agree, so that one
    derivation answers for both and a credential in its grace period takes no longer than any other.
    """
    secret = prepare_password(password)
    if secret is None:
        raise ValueError("not a password")
    recipe = Recipe(cost, random_bytes(_SALT))
    if beside is not None:
        old = parse_hash(beside).recipe
        recipe = old if old.cost == cost and old.length == _DIGEST else recipe
    digest = derive(recipe, secret)
    return f"$argon2id$v=19$m={cost.memory},t={cost.passes},p={cost.lanes}${_b64(recipe.salt)}${_b64(digest)}"


def parse_hash(phc: str) -> _Stored:
    """Take a PHC string apart. Raises ValueError, without quoting it, for anything but sane Argon2id."""
    match = _PHC.match(phc)
    if match is None:
        raise ValueError("stored hash is not an Argon2id PHC string")
    cost = Cost(*map(int, match.groups()[:3]))
    if not (8 * cost.lanes <= cost.memory <= _MOST_MEMORY and cost.passes and cost.lanes):
        raise ValueError("stored hash has Argon2id parameters out of range")
    digest = _unb64(match[5])
    return _Stored(Recipe(cost, _unb64(match[4]), len(digest)), digest, phc)


def _b64(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii").rstrip("=")


def _unb64(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)


# --- checking one ------------------------------------------------------------------------------------------


class _Memory(Generic[_Value]):
    """A bounded mapping whose entries live `ttl` seconds; the oldest goes first."""

    def __init__(self, clock: Clock, ttl: float, size: int) -> None:
        self._clock = clock
        self._ttl = ttl
        self._size = size
        self._entries: dict[bytes, tuple[float, _Value]] = {}

    def get(self, key: bytes) -> _Value | None:
        entry = self._entries.get(key)
        return entry[1] if entry is not None and self._clock.monotonic() < entry[0] else None

    def put(self, key: bytes, value: _Value) -> None:
        self._entries.pop(key, None)
        self._entries[key] = (self._clock.monotonic() + self._ttl, value)
        while len(self._entries) > self._size:
            del self._entries[next(iter(self._entries))]


class PasswordVerifier:
    """Answers "does this password fit one of these hashes?" for one event loop. `close` it when done.

    threads: derivations at a time. queue: questions under way or waiting, beyond which AuthBusyError is raised.
    remember: seconds a right password needs no derivation. remember_wrong: seconds the same wrong password for the
    same hash needs none, so a fleet of clients left behind by a rotation cannot keep everybody else waiting.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        threads: int = 1,
        queue: int = 256,
        remember: float = 600.0,
        remember_wrong: float = 60.0,
        cache_size: int = 10_000,
        cost: Cost = DEFAULT_COST,
        derive: Derive = derive,
        random_bytes: RandomBytes = secrets.token_bytes,
    ) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="password")
        self._queue = queue
        self._derive = derive
        self._key = random_bytes(_DIGEST)
        self._right: _Memory[str] = _Memory(clock, remember, cache_size)
        # Apart from the right ones, or a flood of guesses would push those out.
        self._wrong: _Memory[tuple[str, ...]] = _Memory(clock, remember_wrong, cache_size // 10)
        self._nobody = _Stored(Recipe(cost, random_bytes(_SALT)), random_bytes(_DIGEST), "")
        self._flights: dict[Hashable, asyncio.Future[str | None]] = {}

    async def verify(self, username: str, password: str, hashes: Sequence[str]) -> str | None:
        """That one of the PHC strings which `password` fits. `hashes` is empty for a user nobody knows.

        `username` is the name as the client wrote it: were two spellings of a known one to share an answer, their
        speed would tell it from an unknown one. Raises AuthBusyError when the queue is full, memory is
        short or the verifier is closed; ValueError for a stored hash that is none.
        """
        secret = prepare_password(password)
        if secret is None:
            return None  # no user has such a password, so nothing is told about this one
        hashes = tuple(hashes)
        key = self._memory_key(username, secret)
        right = self._right.get(key)
        if right in hashes:
            return right
        if self._wrong.get(key) == hashes:
            return None
        flight = (key, hashes)
        job = self._flights.get(flight) or self._start(flight, secret)
        return await self._landing(job)

    def close(self) -> None:
        """Stop; who still waits gets AuthBusyError. A derivation under way ends by itself within 0.1 s."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _memory_key(self, username: str, secret: bytes) -> bytes:
        name = username.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(b"%d:%b%b" % (len(name), name, secret), digest_size=32, key=self._key).digest()

    def _start(self, flight: tuple[bytes, tuple[str, ...]], secret: bytes) -> asyncio.Future[str | None]:
        if len(self._flights) >= self._queue:
            raise AuthBusyError("too many passwords are being checked")
        try:
            job = asyncio.get_running_loop().run_in_executor(self._executor, self._match, secret, flight[1])
        except RuntimeError:
            raise AuthBusyError("passwords are no longer checked") from None
        self._flights[flight] = job
        job.add_done_callback(partial(self._landed, flight))
        return job

    def _match(self, secret: bytes, hashes: tuple[str, ...]) -> str | None:
        """In the executor: the hash that fits. One derivation, however many hashes share a recipe."""
        stored = [parse_hash(phc) for phc in hashes] or [self._nobody]
        digests = {recipe: self._derive(recipe, secret) for recipe in dict.fromkeys(one.recipe for one in stored)}
        fitting = [one.phc for one in stored if hmac.compare_digest(digests[one.recipe], one.digest)]
        return fitting[0] if fitting and hashes else None

    def _landed(self, flight: tuple[bytes, tuple[str, ...]], job: asyncio.Future[str | None]) -> None:
        """In the loop, before anybody who waits hears of it, and also when nobody does any more."""
        del self._flights[flight]
        if job.cancelled() or job.exception() is not None:
            return
        key, hashes = flight
        phc = job.result()
        if phc is None:
            self._wrong.put(key, hashes)
        else:
            self._right.put(key, phc)

    async def _landing(self, job: asyncio.Future[str | None]) -> str | None:
        """Shielded: a client that hangs up must not take the answer from others who asked the same."""
        try:
            return await asyncio.shield(job)
        except MemoryError:
            raise AuthBusyError("not enough memory to check a password") from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if job.cancelled() and not (task and task.cancelling()):
                raise AuthBusyError("passwords are no longer checked") from None
            raise
