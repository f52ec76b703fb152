"""What Resend's callbacks say and how they are signed, and what it says of emails when asked.

In: a Callback; an answer of `GET /emails`. Out: ProviderEvents, a Page. Pure; raises CallbackError. Sources: the
vendor's webhook reference, and its reference of emails.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from relay.mail.event import EventKind
from relay.transports.providers.base import Callback, CallbackError, HttpRequest, HttpResponse, Page, ProviderEvent
from relay.transports.providers.callbacks import (
    IGNORED,
    Words,
    address_of,
    decoded,
    demand_fresh,
    demand_hmac,
    event,
    header,
    inner,
    json_objects,
    listed,
    once,
)
from relay.transports.providers.polls import list_in, oldest_of, question, sweep_of, token_of

PAGE: Final = 100
_HORIZON: Final = 172_800.0
_IMPLIED: Final = {"email.opened": "email.delivered", "email.clicked": "email.delivered"}

_WORDS: Final[Words] = {
    "email.sent": IGNORED,
    "email.scheduled": IGNORED,
    "email.received": IGNORED,
    "email.delivered": EventKind.DELIVERED,
    "email.delivery_delayed": EventKind.DELAYED,
    "email.bounced": EventKind.BOUNCED,
    "email.failed": EventKind.BOUNCED,
    "email.suppressed": EventKind.BOUNCED,
    "email.opened": EventKind.OPENED,
    "email.clicked": EventKind.CLICKED,
    "email.complained": EventKind.COMPLAINED,
}

_HARD: Final = {"Permanent": True, "Transient": False}


def read_events(callback: Callback) -> list[ProviderEvent]:
    """Signed by Svix: HMAC over id, time and body; the secret is `whsec_...`."""
    if callback.secret:
        name, stamp = header(callback, "svix-id"), header(callback, "svix-timestamp")
        key = decoded(callback.secret.removeprefix("whsec_"), "hook_secret_file")
        signed = f"{name}.{stamp}.".encode() + callback.body
        _demand_svix(key, signed, header(callback, "svix-signature"))
        demand_fresh(stamp, callback.now)

    def read() -> Iterator[ProviderEvent | None]:
        for each in json_objects(callback.body):
            word, data = each.get("type"), each.get("data")
            recipients = inner(data, "to")
            for recipient in recipients if isinstance(recipients, list) else [recipients]:
                yield event(
                    _WORDS,
                    word,
                    remote_id=inner(data, "email_id"),
                    recipient=address_of(recipient),
                    key=once(_WORDS.get(str(word)), word, inner(data, "email_id"), recipient, each.get("created_at")),
                    at=each.get("created_at"),
                    said=inner(data, "bounce", "message") or inner(data, "failed", "reason"),
                    hard=_HARD.get(str(inner(data, "bounce", "type"))),
                )

    return listed(read())


def question_for(url: str, cursor: str, now: float) -> HttpRequest:
    """`url` is that of the emails, newest first."""
    sweep = sweep_of(cursor, now)
    return question(url, {"limit": PAGE, **({"after": sweep.page} if sweep.page else {})})


def read_page(response: HttpResponse, cursor: str, now: float) -> Page:
    """It says of an email what came last, and of several recipients not to whom: of those with one we learn something.

    Who opened it has it. Each sweep goes two days further back than the one before began, for an email's state may
    change as long.
    """
    sweep = sweep_of(cursor, now)
    emails, answer = list_in(response, "data")
    events = tuple(listed(map(_last_event, emails)))
    oldest = oldest_of(emails, "created_at")
    if answer.get("has_more") is not True or oldest < sweep.since - _HORIZON:
        return Page(events, sweep.ended(), more=False)
    return Page(events, sweep.at(token_of(emails[-1].get("id"))), more=True)


def _last_event(email: dict[str, Any]) -> ProviderEvent | None:
    named = [email.get(field) for field in ("to", "cc", "bcc")]
    recipients = [one for each in named for one in (each if isinstance(each, list) else [each]) if one]
    word = f"email.{email.get('last_event')}"
    word = _IMPLIED.get(word, word)
    kind = _WORDS.get(word)
    if len(recipients) != 1 or kind not in (EventKind.DELIVERED, EventKind.BOUNCED, EventKind.COMPLAINED):
        return None
    key = once(kind, word, email.get("id"), recipients[0], 0)
    recipient = address_of(recipients[0])
    return event(_WORDS, word, remote_id=email.get("id"), recipient=recipient, key=key, at=None, said="")


def _demand_svix(key: bytes, signed: bytes, given: str) -> None:
    """Several signatures while a secret is being changed."""
    for each in given.split(" "):
        version, _, proof = each.partition(",")
        if version != "v1":
            continue
        try:
            return demand_hmac(key, signed, proof, encoded=True)
        except CallbackError:
            continue
    raise CallbackError("the signature is wrong; check hook_secret_file", forged=True)
