"""What SendGrid's callbacks say, and how they are signed.

In: a Callback. Out: ProviderEvents. Pure; raises CallbackError. Source: the vendor's webhook reference.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from relay.mail.event import EventKind
from relay.transports.providers.base import Callback, CallbackError, ProviderEvent
from relay.transports.providers.callbacks import (
    IGNORED,
    Words,
    decoded,
    demand_fresh,
    event,
    header,
    json_objects,
    listed,
)

_WORDS: Final[Words] = {
    "processed": IGNORED,
    "delivered": EventKind.DELIVERED,
    "deferred": EventKind.DELAYED,
    "bounce": EventKind.BOUNCED,
    "dropped": EventKind.BOUNCED,
    "blocked": EventKind.BOUNCED,
    "open": EventKind.OPENED,
    "click": EventKind.CLICKED,
    "unsubscribe": EventKind.UNSUBSCRIBED,
    "group_unsubscribe": EventKind.UNSUBSCRIBED,
    "group_resubscribe": IGNORED,
    "spamreport": EventKind.COMPLAINED,
}


def read_events(callback: Callback) -> list[ProviderEvent]:
    """Signed with ECDSA over the time and the body; the secret is the verification key in base64."""
    if callback.secret:
        stamp = header(callback, "x-twilio-email-event-webhook-timestamp")
        signature = decoded(header(callback, "x-twilio-email-event-webhook-signature"), "the signature")
        _demand_ecdsa(decoded(callback.secret, "hook_secret_file"), stamp.encode() + callback.body, signature)
        demand_fresh(stamp, callback.now)

    def read() -> Iterator[ProviderEvent | None]:
        for each in json_objects(callback.body):
            # `14c5d75ce93.dfd.64b469.filter0001.16648.5515E0B88.0`: what X-Message-Id said stands before the first dot.
            remote_id = str(each.get("sg_message_id", "")).partition(".")[0]
            yield event(
                _WORDS,
                each.get("event"),
                remote_id=remote_id,
                recipient=each.get("email"),
                key=each.get("sg_event_id"),
                at=each.get("timestamp"),
                said=each.get("reason") or each.get("response"),
                # `blocked` is a refusal of this message, not of the address.
                hard=False if "blocked" in (each.get("event"), each.get("type")) else None,
            )

    return listed(read())


def _demand_ecdsa(key: bytes, signed: bytes, signature: bytes) -> None:
    try:
        public = load_der_public_key(key)
    except (ValueError, TypeError):
        raise CallbackError("hook_secret_file holds no verification key", forged=True) from None
    if not isinstance(public, ec.EllipticCurvePublicKey):
        raise CallbackError("hook_secret_file holds no ECDSA key", forged=True)
    try:
        public.verify(signature, signed, ec.ECDSA(SHA256()))
    except InvalidSignature:
        raise CallbackError("the signature is wrong; check hook_secret_file", forged=True) from None
