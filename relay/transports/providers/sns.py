"""Amazon SNS: whether a message it posts is its own, and of a topic that is ours.

In: the JSON of a message, the certificate it names, the topics of the configuration. Out: nothing, or the address that
confirms a subscription. Pure; raises CallbackError. Certificate and confirmation are taken from SNS's own hosts alone.
Source: Amazon SNS Developer Guide, "Verifying the signatures of Amazon SNS messages", SignatureVersion 1 and 2.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA1, SHA256

from relay.transports.providers.base import CallbackError

# No port, no user, nothing but the host's own name before the path.
_HOST: Final = r"https://sns\.[a-z0-9-]{1,40}\.amazonaws\.com(?:\.cn)?/"
_CERTIFICATE: Final = re.compile(_HOST + r"[A-Za-z0-9._-]{1,120}\.pem\Z")
_CONFIRMATION: Final = re.compile(_HOST + r"\?[!-~]{1,2000}\Z")
_LONGEST_TOPIC: Final = 300
_SIGNED: Final = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
    "UnsubscribeConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
}
_OPTIONAL: Final = "Subject"


def certificate_url(message: dict[str, Any], topics: Collection[str]) -> str:
    """Where the certificate of its signature is. Looks at the topic first: a stranger's makes us fetch nothing."""
    topic = _text(message, "TopicArn")
    if topic not in topics:
        raise CallbackError(f"the topic {topic[:_LONGEST_TOPIC]!r} is not in options.topics", forged=True)
    url = _text(message, "SigningCertURL")
    if not _CERTIFICATE.match(url):
        raise CallbackError("the certificate of the signature is not on a host of Amazon SNS", forged=True)
    return url


def demand_signature(message: dict[str, Any], certificate: bytes, now: float) -> None:
    """Raises CallbackError where it is not SNS's."""
    version = _text(message, "SignatureVersion")
    digest = {"1": SHA1(), "2": SHA256()}.get(version)  # noqa: S303 - what version 1 is; 2 is the topic's to choose
    if digest is None:
        raise CallbackError(f"no signature version {version[:20]!r} is known", forged=True)
    try:
        signature = base64.b64decode(_text(message, "Signature"), validate=True)
    except ValueError:
        raise CallbackError("the signature is no base64", forged=True) from None
    try:
        _key(certificate, now).verify(signature, _signed(message), padding.PKCS1v15(), digest)
    except InvalidSignature:
        raise CallbackError("the signature is wrong", forged=True) from None


def confirmation_url(message: dict[str, Any]) -> str:
    """The address that makes SNS begin, `""` where this asks for none. Of a message whose signature was right."""
    if message.get("Type") != "SubscriptionConfirmation":
        return ""
    url = _text(message, "SubscribeURL")
    if not _CONFIRMATION.match(url):
        raise CallbackError("the confirmation is not on a host of Amazon SNS", forged=True)
    return url


def _key(certificate: bytes, now: float) -> rsa.RSAPublicKey:
    try:
        found = x509.load_pem_x509_certificate(certificate)
        key = found.public_key()
    except ValueError:
        raise CallbackError("what the certificate's address holds is no certificate", forged=True) from None
    if not found.not_valid_before_utc <= datetime.fromtimestamp(now, UTC) <= found.not_valid_after_utc:
        raise CallbackError("the certificate of the signature is not valid now; is the clock right?", forged=True)
    if not isinstance(key, rsa.RSAPublicKey):
        raise CallbackError("the certificate of the signature has no RSA key", forged=True)
    return key


def _signed(message: dict[str, Any]) -> bytes:
    """Names and values in this order, each on a line."""
    kind = _text(message, "Type")
    if kind not in _SIGNED:
        raise CallbackError(f"no kind of message of Amazon SNS: {kind[:40]!r}", forged=True)
    names = [name for name in _SIGNED[kind] if name != _OPTIONAL or message.get(name) is not None]
    return "".join(f"{name}\n{_text(message, name)}\n" for name in names).encode("utf-8", "surrogatepass")


def _text(message: dict[str, Any], name: str) -> str:
    found = message.get(name)
    if not isinstance(found, str):
        raise CallbackError(f"{name} is missing; is raw message delivery off for the subscription?", forged=True)
    return found
