"""The DKIM signer behind the port `Signer`: one field a key, relaxed/relaxed, the body hashed once for all.

In: message bytes (CRLF only) and the envelope sender's domain. Out: `DKIM-Signature` fields to put on top, or
`b""` where no key fits. Never signs with `l=`, never raises for what a message holds, does no I/O.
Source: RFC 6376, RFC 8301 (algorithms), RFC 8463 (Ed25519), RFC 8058 §4 (List-Unsubscribe is to be signed).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from relay.mail.address import to_ascii_domain
from relay.mail.errors import AddressSyntaxError
from relay.mail.message import HeaderField, addresses_in, header_fields, split_message
from relay.ports import Clock, Signing
from relay.signing.canonical import RelaxedBodyHash, relaxed_body_hash, relaxed_field
from relay.signing.key import SigningKey
from relay.signing.keys import KeyStore
from relay.signing.names import DOMAIN_LENGTH

DEFAULT_VALIDITY: Final = 7 * 86_400.0

# Named once more than they occur: whoever adds one to a signed message, or a first one, breaks the signature.
OVERSIGNED: Final = (
    "from",
    "to",
    "cc",
    "subject",
    "date",
    "message-id",
    "reply-to",
    "mime-version",
    "content-type",
    "content-transfer-encoding",
)
# Named as often as they occur: lists and resenders add them rightfully where there were none.
SIGNED: Final = (
    "sender",
    "in-reply-to",
    "references",
    "content-id",
    "content-description",
    "resent-date",
    "resent-from",
    "resent-sender",
    "resent-to",
    "resent-cc",
    "resent-message-id",
    "list-id",
    "list-help",
    "list-unsubscribe",
    "list-unsubscribe-post",
    "list-subscribe",
    "list-post",
    "list-owner",
    "list-archive",
    "feedback-id",
)
_ORDER: Final = OVERSIGNED + SIGNED
_WANTED: Final = frozenset(_ORDER)
_FIELDS_SIGNED: Final = 200
_FROM_LENGTH: Final = 16_384
_LINE: Final = 78
_Fields = dict[str, list[HeaderField]]
_ALGORITHM_TAG: Final = {"rsa": "rsa-sha256", "ed25519": "ed25519-sha256"}


class DkimSigner:
    """Signs with the keys of the From domain or its nearest parent, else with those of the envelope sender's."""

    def __init__(self, keys: KeyStore, clock: Clock, validity: float = DEFAULT_VALIDITY) -> None:
        """`validity` is the seconds from signing to `x=`; it has to outlast every retry of the message.

        Raises ValueError where it is not positive.
        """
        if validity < 1:
            raise ValueError("a signature has to be valid for at least a second")
        self._keys = keys
        self._clock = clock
        self._validity = validity

    def sign(self, content: bytes, sender_domain: str) -> bytes:
        """See `Signer.sign`. A message without exactly one From field is not signed (RFC 6376 §5.4, RFC 5322)."""
        header, body = split_message(content)
        signable = self._signable(header, sender_domain)
        return self._signed(*signable, relaxed_body_hash(body)) if signable is not None else b""

    def begin(self, header: bytes, sender_domain: str) -> Signing | None:
        """See `Signer.begin`."""
        signable = self._signable(header, sender_domain)
        if signable is None:
            return None
        body = RelaxedBodyHash()
        return Signing(body.update, lambda: self._signed(*signable, body.digest()))

    def _signable(self, header: bytes, sender_domain: str) -> tuple[_Fields, Sequence[SigningKey]] | None:
        """What is signed, and the keys, of which there is one at least."""
        fields = signable_fields(header)
        if fields is None:
            return None
        keys = self._find(author_domain(fields)) or self._find(sender_domain)
        return (fields, keys) if keys else None

    def _signed(self, fields: _Fields, keys: Sequence[SigningKey], body_hash: bytes) -> bytes:
        now = self._clock.now()
        return signature_fields(fields, body_hash, keys, int(now), int(now + self._validity))

    def _find(self, domain: str) -> tuple[SigningKey, ...]:
        if not 0 < len(domain) <= DOMAIN_LENGTH:
            return ()
        try:
            return self._keys.find(to_ascii_domain(domain))
        except AddressSyntaxError:
            return ()


def signable_fields(header: bytes) -> _Fields | None:
    """The fields a signature covers, by name, each list from the top down.

    None where From does not occur exactly once or so many fields would be signed that it is no mail.
    """
    fields: _Fields = {}
    count = 0
    for field in header_fields(header):
        if field.name in _WANTED:
            fields.setdefault(field.name, []).append(field)
            count += 1
    if len(fields.get("from", ())) != 1 or count > _FIELDS_SIGNED:
        return None
    return fields


def author_domain(fields: _Fields) -> str:
    """The domain of the first mailbox in From, or `""`."""
    value = fields["from"][0].value
    if len(value) > _FROM_LENGTH:
        return ""
    addresses = addresses_in(value.decode("utf-8", "replace"))
    return addresses[0].rpartition("@")[2].lower() if addresses else ""


def signature_fields(
    fields: _Fields,
    body_hash: bytes,
    keys: Sequence[SigningKey],
    signed_at: int,
    expires_at: int,
) -> bytes:
    """One folded `DKIM-Signature` field a key, each with its CRLF. Times are seconds since the epoch."""
    names = tuple((name, len(fields.get(name, ()))) for name in _ORDER if name in fields or name in OVERSIGNED)
    # The lowest of several fields of a name is signed first (RFC 6376 §5.4.2).
    covered = b"".join(relaxed_field(field.raw) for name, _ in names for field in reversed(fields.get(name, ())))
    shared = hashlib.sha256(covered)
    middle = (
        f" t={signed_at}; x={expires_at};\r\n{_name_list(names)};\r\n"
        f" bh={base64.b64encode(body_hash).decode('ascii')};\r\n b="
    )
    signatures = []
    for key in keys:
        unsigned = (_opening(key.domain, key.selector, _ALGORITHM_TAG[key.algorithm]) + middle).encode("ascii")
        digest = shared.copy()
        digest.update(b"dkim-signature:" + unsigned.replace(b"\r\n", b""))
        signature = base64.b64encode(key.sign_digest(digest.digest()))
        signatures.append(b"DKIM-Signature: " + unsigned + _folded_base64(signature) + b"\r\n")
    return b"".join(signatures)


@lru_cache(maxsize=4096)
def _opening(domain: str, selector: str, algorithm: str) -> str:
    # Every continuation starts with one space, so that the canonical form is this text without its line ends.
    place = f" d={domain}; s={selector};"
    if len(place) > _LINE:
        place = f" d={domain};\r\n s={selector};"
    return f"v=1; a={algorithm}; c=relaxed/relaxed;\r\n{place}\r\n"


@lru_cache(maxsize=256)
def _name_list(names: tuple[tuple[str, int], ...]) -> str:
    """The `h=` tag, folded: each name as often as it occurs, the oversigned once more."""
    repeated = [name for name, count in names for _ in range(count + (name in OVERSIGNED))]
    lines = [f" h={repeated[0]}"]
    for name in repeated[1:]:
        if len(lines[-1]) + len(name) + 2 > _LINE:
            lines[-1] += ":"
            lines.append(f" {name}")
        else:
            lines[-1] += f":{name}"
    return "\r\n".join(lines)


def _folded_base64(signature: bytes) -> bytes:
    first, width = _LINE - len(" b="), _LINE - 1
    rest = range(first, len(signature), width)
    return b"\r\n ".join([signature[:first], *(signature[at : at + width] for at in rest)])
