"""Golden callbacks: what a vendor's callback in `KIND/events.json` says, event by event, and whether it is believed.

A case: `body` (JSON) and perhaps `headers` of the callback and `options` of the provider, and `events`: kind, the
vendor's id of the message, recipient, seconds since the epoch, text, `hard` or `soft` where a bounce is called so; or
`error`, in words.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from kinds import KINDS, built

from relay.transports.providers import provider_classes
from relay.transports.providers.base import Callback, CallbackError, ProviderEvent
from relay.transports.providers.callbacks import seconds

HERE = Path(__file__).parent
CASES = [
    (kind, name) for kind in KINDS for name in json.loads((HERE / kind / "events.json").read_text(encoding="utf-8"))
]
NOW = 1_795_600_000.0
STAMP = str(int(NOW))


def in_words(event: ProviderEvent) -> list[Any]:
    words = [event.kind.value if event.kind else None, event.remote_id, event.recipient, event.at, event.said]
    return [*words, *([] if event.hard is None else ["hard" if event.hard else "soft"])]


def said_by(kind: str, case: dict[str, Any]) -> dict[str, Any]:
    body = json.dumps(case["body"]).encode()
    try:
        events = built(kind, **case.get("options", {})).events(Callback(case.get("headers", {}), body, "", NOW))
    except CallbackError as error:
        return {"error": str(error)}
    assert len({event.key for event in events}) == len(events), "two events with one key"
    return {"events": [in_words(event) for event in events]}


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_golden_callback(kind: str, name: str) -> None:
    """Word by word."""
    case = json.loads((HERE / kind / "events.json").read_text(encoding="utf-8"))[name]

    assert said_by(kind, case) == {key: case[key] for key in ("events", "error") if key in case}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "body", [b"", b"no JSON", b"7", b"[[]]", b"{}", b"[{}]", b'[{"event":[]}]', b'{"event":{"to":{}}}', b'{"msys":7}',
             b'{"Message":"{"}', b'{"data":{"to":{}}}', b'{"event-data":[],"signature":7}', b'{"timestamp":1e999}',
             b'{"MessageID":true,"event":null}', b"[" * 100_000],
)  # fmt: skip
def test_any_callback_is_events_or_an_error(kind: str, body: bytes) -> None:
    """Nothing is said to have been delivered or bounced that the callback does not say."""
    try:
        events = built(kind).events(Callback({}, body, "", NOW))
    except CallbackError:
        return
    assert all(event.kind is None for event in events)


def test_half_a_surrogate_is_text_like_any_other() -> None:
    """JSON can escape one, and no text can be encoded that holds it."""
    notice = json.dumps({"Type": "Notification", "MessageId": "1", "Message": "\ud800"}).encode()
    with pytest.raises(CallbackError):
        built("ses").events(Callback({}, notice, "", NOW))
    signature = {"timestamp": STAMP, "token": "\ud800", "signature": "\ud800"}
    with pytest.raises(CallbackError, match="the signature is wrong"):
        built("mailgun").events(Callback({}, json.dumps({"signature": signature}).encode(), "key", NOW))


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", 5e11, 999e15, -1])
def test_a_time_that_no_calendar_has_is_none(at: object) -> None:
    """It would be written down, and nobody could show it."""
    assert seconds(at) == 0.0


def _sendgrid(body: bytes) -> tuple[str, dict[str, str]]:
    key = ec.generate_private_key(ec.SECP256R1())
    public = base64.b64encode(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()
    proof = base64.b64encode(key.sign(STAMP.encode() + body, ec.ECDSA(SHA256()))).decode()
    names = ("x-twilio-email-event-webhook-timestamp", "x-twilio-email-event-webhook-signature")
    return public, dict(zip(names, (STAMP, proof), strict=True))


def _resend(body: bytes) -> tuple[str, dict[str, str]]:
    key = base64.b64encode(b"k" * 24).decode()
    proof = base64.b64encode(hmac.digest(b"k" * 24, f"msg_1.{STAMP}.".encode() + body, hashlib.sha256)).decode()
    return f"whsec_{key}", {"svix-id": "msg_1", "svix-timestamp": STAMP, "svix-signature": f"v1,AAAA v1,{proof}"}


def _mailgun(body: bytes) -> tuple[str, dict[str, str]]:
    return "signing-key", {}


def _mailgun_body() -> bytes:
    proof = hmac.digest(b"signing-key", f"{STAMP}token".encode(), hashlib.sha256).hex()
    signature = {"timestamp": STAMP, "token": "token", "signature": proof}
    return json.dumps({"signature": signature, "event-data": {"event": "delivered", "id": "e"}}).encode()


SIGNED = {"sendgrid": (_sendgrid, b'[{"event":"delivered"}]'), "resend": (_resend, b'{"type":"email.delivered"}'),
          "mailgun": (_mailgun, _mailgun_body())}  # fmt: skip


def test_every_vendor_that_signs_is_checked_here() -> None:
    assert set(SIGNED) == {kind for kind, provider in provider_classes().items() if provider.signs_callbacks}


@pytest.mark.parametrize("kind", SIGNED)
def test_a_signature_that_fits_is_believed_and_no_other(kind: str) -> None:
    """Neither another key, nor other octets, nor one recorded an hour ago, nor none at all."""
    sign, body = SIGNED[kind]
    secret, headers = sign(body)
    adapter = built(kind)

    [event] = adapter.events(Callback(headers, body, secret, NOW))
    assert event.kind is not None
    other = {"sendgrid": _sendgrid(body)[0], "resend": "whsec_" + base64.b64encode(b"x" * 24).decode(), "mailgun": "x"}
    changed = body.replace(STAMP.encode(), str(int(NOW) + 1).encode()) if kind == "mailgun" else body + b" "
    forgeries = [
        Callback(headers, body, other[kind], NOW),
        Callback(headers, changed, secret, NOW),
        Callback(headers, body, secret, NOW + 3600),
        Callback({}, b'[{"event":"delivered"}]', secret, NOW),
    ]
    for forgery in forgeries:
        with pytest.raises(CallbackError) as caught:
            adapter.events(forgery)
        assert caught.value.forged
