"""Amazon SNS: its own signature over a topic of ours is believed, and nothing else is fetched, visited or believed."""

from __future__ import annotations

import asyncio
import base64
import datetime
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from relay.settings import ProviderSettings
from relay.transports.kept import MOST, PAUSE, KeptDocuments
from relay.transports.providers import build_provider
from relay.transports.providers.base import Callback, CallbackError, Provider

TOPIC = "arn:aws:sns:eu-central-1:123456789012:mail"
URL = "https://sns.eu-central-1.amazonaws.com/SimpleNotificationService-0123abcd.pem"
NOW = 1_795_600_000.0
KEY = rsa.generate_private_key(65537, 2048)
OTHER = rsa.generate_private_key(65537, 2048)
NOTICE = {
    "eventType": "Bounce",
    "mail": {"messageId": "m-1"},
    "bounce": {"bounceType": "Permanent", "bouncedRecipients": [{"emailAddress": "ann@example.net"}]},
}


def certificate(key: rsa.RSAPrivateKey = KEY, start: float = NOW - 86_400) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
    begin = datetime.datetime.fromtimestamp(start, datetime.UTC)
    made = x509.CertificateBuilder(
        name, name, key.public_key(), x509.random_serial_number(), begin, begin + datetime.timedelta(days=30)
    )
    return made.sign(key, SHA256()).public_bytes(Encoding.PEM)


def message(
    kind: str = "Notification", version: str = "2", key: rsa.RSAPrivateKey = KEY, **more: Any
) -> dict[str, Any]:
    found = {
        "Type": kind,
        "MessageId": "sns-1",
        "TopicArn": TOPIC,
        "Message": json.dumps(NOTICE) if kind == "Notification" else "You have chosen to subscribe",
        "Timestamp": "2026-11-25T10:00:00.000Z",
        "SigningCertURL": URL,
        "SignatureVersion": version,
        **more,
    }
    if kind != "Notification":
        found |= {
            "Token": "t",
            "SubscribeURL": more.get("SubscribeURL", URL.partition("Simple")[0] + "?Action=x&Token=t"),
        }
    signed = [name for name in sorted(found) if name not in ("SigningCertURL", "SignatureVersion")]
    text = "".join(f"{name}\n{found[name]}\n" for name in signed).encode()
    digest = SHA1() if version == "1" else SHA256()
    return {**found, "Signature": base64.b64encode(key.sign(text, padding.PKCS1v15(), digest)).decode()}


def provider(*topics: str) -> Provider:
    options = {"topics": list(topics)}
    return build_provider("ses", ProviderSettings(kind="ses", api_key_file=Path("unused"), options=options))


def callback(found: Any, document: bytes = b"", now: float = NOW) -> Callback:
    return Callback({}, json.dumps(found).encode(), "", now, document)


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize("more", [{}, {"Subject": "Amazon SES"}])
def test_a_notification_with_the_signature_of_sns_is_believed(version: str, more: dict[str, str]) -> None:
    """In both versions, and with the one field that may be missing."""
    found = message(version=version, **more)

    assert provider(TOPIC).document_for(callback(found)) == URL
    [event] = provider(TOPIC).events(callback(found, certificate()))
    assert (event.kind, event.remote_id, event.recipient) == ("bounced", "m-1", "ann@example.net")
    assert provider(TOPIC).confirmation(callback(found, certificate())) == ""


@pytest.mark.parametrize("name", ["Message", "MessageId", "TopicArn", "Timestamp", "Type", "Subject", "Signature"])
def test_a_change_anywhere_breaks_the_signature(name: str) -> None:
    """Also a field that was added, and a version that was not signed with."""
    found = message()
    changed = {**found, name: "Notification" if name == "Type" else f"{found.get(name, '')}x"}
    if name == "Type":
        changed = {**message("SubscriptionConfirmation"), "Type": "Notification"}

    with pytest.raises(CallbackError) as caught:
        provider(TOPIC, TOPIC + "x").events(callback(changed, certificate()))
    assert caught.value.forged


@pytest.mark.parametrize(
    ("found", "document"),
    [
        (message(key=OTHER), certificate()),
        ({**message(), "SignatureVersion": "1"}, certificate()),
        ({**message(), "SignatureVersion": "3"}, certificate()),
        ({**message(), "Signature": "!"}, certificate()),
        (message(), certificate(start=NOW + 1)),
        (message(), certificate(start=NOW - 40 * 86_400)),
        (message(), b"no certificate"),
        (message(), b""),
        (NOTICE, certificate()),
        ([message(), NOTICE], certificate()),
        ({}, certificate()),
        (message("Nonsense"), certificate()),
    ],
)
def test_what_is_not_signed_by_sns_is_forged(found: Any, document: bytes) -> None:
    """Another key, version, time or form; raw messages, which carry no signature; several, of which one is."""
    with pytest.raises(CallbackError) as caught:
        provider(TOPIC).events(callback(found, document))
    assert caught.value.forged


@pytest.mark.parametrize(
    "more",
    [
        {"TopicArn": TOPIC + "-of-somebody-else"},
        {"SigningCertURL": "http://sns.eu-central-1.amazonaws.com/a.pem"},
        {"SigningCertURL": "https://sns.eu-central-1.amazonaws.com.evil.example/a.pem"},
        {"SigningCertURL": "https://evil.example/sns.eu-central-1.amazonaws.com/a.pem"},
        {"SigningCertURL": "https://sns.eu-central-1.amazonaws.com@evil.example/a.pem"},
        {"SigningCertURL": "https://sns.eu-central-1.amazonaws.com:8443/a.pem"},
        {"SigningCertURL": "https://s3.eu-central-1.amazonaws.com/sns/a.pem"},
        {"SigningCertURL": "https://sns.a.b.amazonaws.com/a.pem"},
        {"SigningCertURL": "https://sns.eu-central-1.amazonaws.com/../a.pem?x"},
        {"SigningCertURL": URL + "\n"},
        {"SigningCertURL": 7},
    ],
)
def test_nothing_is_fetched_for_a_strangers_topic_or_from_another_host(more: dict[str, Any]) -> None:
    """The certificate is what all belief hangs on."""
    with pytest.raises(CallbackError) as caught:
        provider(TOPIC).document_for(callback(message(**more)))
    assert caught.value.forged


def test_a_subscription_to_a_topic_of_ours_is_confirmed() -> None:
    """It says nothing else, and the address is SNS's own."""
    found = message("SubscriptionConfirmation")
    ours = callback(found, certificate())

    assert provider(TOPIC).events(ours) == []
    assert provider(TOPIC).confirmation(ours) == found["SubscribeURL"]


@pytest.mark.parametrize(
    "url", ["https://evil.example/?Action=x", "https://sns.eu-central-1.amazonaws.com/", "http://x"]
)
def test_a_confirmation_elsewhere_is_not_visited(url: str) -> None:
    """Even signed."""
    ours = callback(message("SubscriptionConfirmation", SubscribeURL=url), certificate())

    assert provider(TOPIC).events(ours) == []
    with pytest.raises(CallbackError) as caught:
        provider(TOPIC).confirmation(ours)
    assert caught.value.forged


def test_without_topics_the_address_alone_counts() -> None:
    """Nothing is fetched; a confirmation is the operator's to open."""
    assert provider().document_for(callback(message())) == ""
    assert len(provider().events(callback(NOTICE))) == 1
    with pytest.raises(CallbackError, match="open this once"):
        provider().events(callback(message("SubscriptionConfirmation")))
    assert provider().confirmation(callback(message("SubscriptionConfirmation"))) == ""


# --- documents -----------------------------------------------------------------------------------------------


class Clock:
    at = 100.0

    def now(self) -> float:
        return NOW

    def monotonic(self) -> float:
        return self.at


class Fetcher:
    def __init__(self) -> None:
        self.asked: list[str] = []
        self.broken = False

    async def get(self, url: str) -> bytes:
        self.asked.append(url)
        await asyncio.sleep(0)
        if self.broken:
            raise OSError("no route")
        return url.encode()


def test_a_document_is_fetched_once_and_a_failure_is_not_repeated_at_once() -> None:
    """Whoever posts garbage makes no flood of requests to the vendor."""
    clock, fetcher = Clock(), Fetcher()
    kept = KeptDocuments(fetcher, clock)

    async def scene() -> None:
        fetcher.broken = True
        for _ in range(3):
            with pytest.raises(OSError, match="no route"):
                await kept.get("a")
        fetcher.broken = False
        clock.at += PAUSE
        assert await asyncio.gather(*(kept.get("a") for _ in range(5))) == [b"a"] * 5
        assert fetcher.asked == ["a", "a"]
        for number in range(MOST):
            await kept.get(f"b{number}")
        await kept.get("a")
        assert fetcher.asked.count("a") == 3, "few are kept"

    asyncio.run(scene())
