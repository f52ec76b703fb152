"""What vendors answer and report: every kind's callbacks, answers and signatures, tokens by OAuth, waiting times."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "golden"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit" / "transports"))

from harness import Octets, Readers
from kinds import KINDS, built
from test_golden_polls import POLLED, cases_of, polled
from test_sns import NOW, TOPIC, URL, certificate, message
from values import bent, written

from relay.mail.envelope import Envelope, Recipient
from relay.mail.outcome import Deferred
from relay.mail.reply import Reply
from relay.ports import DeliveryRequest, SystemClock
from relay.settings import OAuthSettings
from relay.transports.http_calls import MOST_STEPS, Calls
from relay.transports.http_exchange import RETRY_AFTER_RANGE, parse_retry_after, without_secrets
from relay.transports.oauth import TokenSource, _Token
from relay.transports.providers.base import (
    Callback,
    CallbackError,
    HttpRequest,
    HttpResponse,
    Provider,
    ProviderEvent,
    Rendering,
)
from relay.transports.providers.polls import begun_again, under_way
from relay.transports.providers.sns import certificate_url, confirmation_url, demand_signature

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
PROVIDERS: list[Provider] = [built(kind, **({"topics": [TOPIC]} if kind == "ses" else {})) for kind in KINDS]
_CALL = HttpRequest(
    "POST", "https://x.example/", {}, b'{"Messages":[{"To":[{}]},{"To":[{},{}]}]}', (("a@b.example",),
    ("c@d.example", "e@f.example"))
)  # fmt: skip
_STATUSES = (
    200,
    201,
    202,
    204,
    207,
    301,
    400,
    401,
    402,
    403,
    404,
    406,
    409,
    413,
    422,
    429,
    500,
    502,
    503,
    504,
    599,
    100,
)
_CERTIFICATE = certificate()
_SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef").decode()


def _cases(kind: str, name: str) -> list[Any]:
    path = GOLDEN / kind / f"{name}.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return [case["body"] for case in found.values() if "body" in case] or [{}]


EVENTS = [_cases(kind, "events") for kind in KINDS]
ANSWERS = [_cases(kind, "answers") for kind in KINDS]


def _events_of(provider: Provider, callback: Callback) -> list[ProviderEvent]:
    """As the hook does it: a document may be asked for first, and an address be visited after."""
    try:
        url = provider.document_for(callback)
        assert not url or url.startswith("https://sns.")
        found = provider.events(callback)
        confirmation = provider.confirmation(callback)
        assert not confirmation or confirmation.startswith("https://sns.")
    except CallbackError as error:
        assert "\n" not in str(error)
        str(error).encode("utf-8", "backslashreplace")
        return []
    _told(found)
    return found


def _told(found: Iterable[ProviderEvent]) -> None:
    """Events can be written down and shown."""
    for event in found:
        texts = (event.word, event.remote_id, event.recipient, event.said, event.key)
        assert all(isinstance(text, str) for text in texts)
        "".join(texts).encode("utf-8")
        datetime.fromtimestamp(event.at, UTC)


def _callback(octets: bytes) -> None:
    chosen = Octets(octets)
    _events_of(chosen.one(PROVIDERS), Callback({}, chosen.rest(), "", 1.8e9))


def _bent_callback(octets: bytes) -> None:
    chosen = Octets(octets)
    which = chosen.number(len(PROVIDERS))
    body = written(bent(chosen, EVENTS[which]), chosen)
    _events_of(PROVIDERS[which], Callback({}, body, "", 1.8e9))


def _signed_callback(octets: bytes) -> None:
    """With a secret: header fields of every vendor's signatures, right or nearly."""
    chosen = Octets(octets)
    which = chosen.number(len(PROVIDERS))
    body = written(bent(chosen, EVENTS[which]), chosen)
    stamp = chosen.one(("1800000000", "", "x", "\xff", "1e999", "-1", "1800000000000"))
    digest = hmac.digest(b"0123456789abcdef", f"id.{stamp}.".encode("utf-8", "replace") + body, hashlib.sha256)
    given = chosen.one(
        (base64.b64encode(digest).decode(), "v1," + base64.b64encode(digest).decode(), digest.hex(), "v1,", "ü",
        "\xff", "", "!")
    )  # fmt: skip
    names = (
        "svix-id", "svix-timestamp", "svix-signature", "webhook-id", "webhook-timestamp", "webhook-signature",
        "x-twilio-email-event-webhook-signature", "x-twilio-email-event-webhook-timestamp", "x-signature",
        "authorization",
        "x-messagesystems-webhook-token", "x-sendpost-signature", "x-webhook-signature", "x-timestamp",
    )  # fmt: skip
    headers = {name: "id" if name.endswith("-id") else stamp if "timestamp" in name else given for name in names}
    secret = chosen.one((_SECRET, "secret", "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE", "whsec_!", "ü"))
    _events_of(PROVIDERS[which], Callback(headers, body, secret, 1.8e9))


def _sns(octets: bytes) -> None:
    """Signed as Amazon signs, then bent; and the certificate may be anything."""
    chosen = Octets(octets)
    kind = chosen.one(("Notification", "SubscriptionConfirmation", "UnsubscribeConfirmation", "Other"))
    found = bent(
        chosen, [message(kind, chosen.one(("1", "2")))] if kind != "Other" else [{"Type": "x", "TopicArn": TOPIC}]
    )
    document = chosen.one((_CERTIFICATE, b"", b"-----BEGIN CERTIFICATE-----\n", chosen.rest()))
    body = json.dumps(found).encode()
    provider = PROVIDERS[KINDS.index("ses")]
    _events_of(provider, Callback({}, body, "", NOW, document))
    if isinstance(found, dict):
        with contextlib.suppress(CallbackError):
            certificate_url(found, {TOPIC})
        with contextlib.suppress(CallbackError):
            demand_signature(found, document, NOW)
            assert found.get("TopicArn") is not None
        with contextlib.suppress(CallbackError):
            assert confirmation_url(found) in ("", found.get("SubscribeURL"))


def _read(provider: Provider, response: HttpResponse) -> None:
    found = provider.read(response, _CALL)
    assert set(found) == set(_CALL.recipients)
    for outcome in found.values():
        assert isinstance(outcome.reply, Reply)
        if response.status >= 300 and provider.kind != "mailjet":  # whose results stand by a 400 too
            assert not outcome.reply.positive


def _answer(octets: bytes) -> None:
    chosen = Octets(octets)
    _read(chosen.one(PROVIDERS), HttpResponse(chosen.one(_STATUSES), {}, chosen.rest(), None))


def _bent_answer(octets: bytes) -> None:
    chosen = Octets(octets)
    which = chosen.number(len(PROVIDERS))
    headers = {name: chosen.one(("", "id-1", "\xff", "x" * 3000)) for name in ("x-message-id", "location", "x-id")}
    body = written(bent(chosen, ANSWERS[which]), chosen)
    _read(PROVIDERS[which], HttpResponse(chosen.one(_STATUSES), headers, body, None))


_POLLED = [(polled(kind), [case["answer"] for case in cases_of(kind).values()]) for kind in POLLED]


def _bent_page(octets: bytes) -> None:
    """What a vendor answers that is asked for news: events, where to go on, and an end of it."""
    chosen = Octets(octets)
    (provider, documents), cursor = chosen.one(_POLLED), ""
    for _ in range(4):
        call = provider.poll(cursor, NOW)
        assert call.url.isascii()
        assert call.url.startswith(provider.base_url)
        assert len(call.url) < 20_000
        body = written(bent(chosen, documents), chosen) if chosen.number(8) else chosen.take(200)
        try:
            page = provider.page(HttpResponse(200, {}, body, None), cursor, NOW)
        except CallbackError as error:
            assert "\n" not in str(error)
            return
        _told(page.events)
        assert len(page.cursor) < 20_000
        again = chosen.number(8) == 7 and under_way(page.cursor, NOW)
        cursor = begun_again(page.cursor, NOW) if again else page.cursor


def _described(octets: bytes) -> None:
    """Callbacks of an API that its operator describes, however it proves them."""
    chosen = Octets(octets)
    provider, secret = chosen.one(_DESCRIBED)
    bodies = [
        {"mail": {"id": 7, "events": [{"type": "sent", "to": "<a@b.example>", "at": 1}]}, "type": "delivered"},
        [{"type": "x", "id": "m", "e": [1, {"a~b": ["word"]}]}],
    ]
    body = written(bent(chosen, bodies), chosen) if chosen.number(4) else chosen.take(200)
    stamp = chosen.one(("1800000000", "", "t=1800000000", "x", "\xff"))
    digest = hmac.digest(b"secret", stamp.encode() + b"." + body, hashlib.sha256)
    login = base64.b64encode(b"user:secret").decode()
    given = chosen.one((digest.hex(), base64.b64encode(digest).decode(), f"v1={digest.hex()}", "", "\xff", "v1=,v1="))
    proof = chosen.one((f"Basic {login}", "Basic !", "\xff"))
    headers = {"x-signature": given, "x-time": stamp, "authorization": proof}
    _events_of(provider, Callback(headers, body, secret, 1.8e9))


def _describing(**more: Any) -> Provider:
    callback = {
        "event": ["/type", "/e/1/a~0b"],
        "words": {"delivered": "delivered", "x word": "bounced_hard", "sent": "ignored"},
        "id": "1/id",
        "recipient": "/to",
        "time": "/at",
        "text": ["/said", "2/type"],
        **more,
    }
    return built("http", callback=callback)


_STAMPED = {"signed": "{timestamp}.{body}", "timestamp_header": "X-Time", "timestamp_prefix": "t=", "prefix": "v1="}
_DESCRIBED = [
    (_describing(), ""),
    (_describing(events="/mail/events"), ""),
    (_describing(events="/*/events", basic=True), "user:secret"),
    (_describing(signature={"header": "X-Signature", **_STAMPED}), "secret"),
    (_describing(signature={"header": "X-Signature", "encoding": "base64"}), "secret"),
]

_MESSAGE = b"From: app@example.org\r\nTo: a@b.example\r\nSubject: x\r\n\r\nhello\r\n"
_STEPS = [{"id": 1, "results_count": 1, "status": "enabled"}, {"data": [{"name": "x", "id": 1}]}, {"error_code": 402}]
_CALLS = [Calls(provider, None, SystemClock(), None) for provider in PROVIDERS]  # type: ignore[arg-type]


def _rendered(provider: Provider, attempt: int) -> list[HttpRequest]:
    recipients = (Recipient("a@b.example"), Recipient("c@d.example"))
    envelope = Envelope("app@example.org", recipients)
    request = DeliveryRequest("id-1", "acme", "app@example.org", recipients, "", envelope, attempt, "id-1-0")
    found = provider.render(request, _MESSAGE)
    return list(found.requests) if isinstance(found, Rendering) else [_CALL]


_REQUESTS = [[_rendered(provider, attempt)[0] for attempt in (1, 2)] for provider in PROVIDERS]


def _followed(octets: bytes) -> None:
    """Answers to the calls that a message is made of, and to those that follow from them."""
    chosen = Octets(octets)
    which = chosen.number(len(PROVIDERS))
    call, provider = chosen.one(_REQUESTS[which]), PROVIDERS[which]
    documents = [*ANSWERS[which], *_STEPS]
    for _ in range(MOST_STEPS):
        body = written(bent(chosen, documents), chosen)
        response = HttpResponse(chosen.one((200, *_STATUSES)), {}, body, None)
        assert set(provider.read(response, call)) == set(call.recipients)
        following = call.follow(chosen.one((response, response, response, None)), 1.8e9) if call.follow else None
        if following is None:
            return
        assert following.recipients == call.recipients
        call = following
    raise AssertionError("one call leads to the next for ever")


_OAUTH = TokenSource(
    "provider.test",
    OAuthSettings(client_id="client"),
    "https://login.example/token",
    "scope",
    "the secret",
    SystemClock(),
)


def _oauth(octets: bytes) -> None:
    """An answer of where tokens are given out: a token, or why there is none."""
    chosen = Octets(octets)
    good = {"access_token": "abc", "expires_in": 3600, "token_type": "Bearer", "refresh_token": "r"}
    bad = {"error": "invalid_grant", "error_description": "no such the secret"}
    body = written(bent(chosen, [good, bad]), chosen) if chosen.number(4) else chosen.rest()
    found = _OAUTH._read(HttpResponse(chosen.one((200, 200, 400, 401, 429, 500, 302)), {}, body, None))
    if isinstance(found, _Token):
        assert found.renew_at < found.over_at < float("inf")
        assert found.word.isascii()
    else:
        assert isinstance(found, Deferred)
        assert "the secret" not in found.reply.text


def _waiting(octets: bytes) -> None:
    found = parse_retry_after(octets.decode("latin-1"), 1.8e9)
    for calls, provider in zip(_CALLS, PROVIDERS, strict=True):
        if provider.reset_header:
            calls._wait({provider.reset_header: octets.decode("latin-1")}, 1.8e9)
    assert found is None or RETRY_AFTER_RANGE[0] <= found <= RETRY_AFTER_RANGE[1]
    assert b"abcdefgh" not in without_secrets(octets, ("abcdefgh",))


def target() -> Readers:
    found = Readers(
        (
            _callback,
            _bent_callback,
            _bent_callback,
            _signed_callback,
            _sns,
            _answer,
            _bent_answer,
            _bent_answer,
            _bent_page,
            _followed,
            _described,
            _oauth,
            _waiting,
        ),
        pure=(_callback, _answer, _waiting),
    )
    found.more = list(_seeds(found))
    return found


def _seeds(found: Readers) -> Iterator[bytes]:
    for number, (events, answers) in enumerate(zip(EVENTS, ANSWERS, strict=True)):
        for place, each in enumerate(events):
            yield found.seed(_callback, bytes((number,)) + json.dumps(each).encode())
            yield found.seed(_bent_callback, bytes((number, place, 0)))
            yield found.seed(_signed_callback, bytes((number, place, 0, 0, 0)))
        yield from (found.seed(_followed, bytes((number, attempt, 1, 0, 0, 0, 0, 0, 0))) for attempt in (0, 1))
        for place, each in enumerate(answers):
            yield found.seed(_answer, bytes((number, place % 6)) + json.dumps(each).encode())
            yield found.seed(_bent_answer, bytes((number, 0, 0, 0, place, 0)))
    yield from (found.seed(_sns, bytes((kind, version, 0, 0))) for kind in range(4) for version in (0, 1))
    for number, kind in enumerate(POLLED):
        yield from (found.seed(_bent_page, bytes((number, 1, place, 0, 0, 0))) for place in range(len(cases_of(kind))))
    yield from (found.seed(_described, bytes((number, 1, body, 0, 0, 0))) for number in range(5) for body in (0, 1))
    yield found.seed(_sns, b"\0\1\0\0\3" + URL.encode())
    yield from (found.seed(_oauth, bytes((1, kind, bent_))) for kind in (0, 1) for bent_ in range(4))
    yield from (
        found.seed(_waiting, each)
        for each in (b"120", b"9" * 400, b"Wed, 21 Oct 2026 07:28:00 GMT", b"9" * 60, b"Mon, 1 Jan 99999999999 0:0 +9")
    )
