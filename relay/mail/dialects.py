"""Dialects: the header fields by which the email vendors are told what to do with a message.

In: header fields of a message of an authenticated client. Out: Directives, in nobody's dialect; a provider renders them
in its own. The fields themselves are for the sender's server alone and never go further (`without_directives`).
Raises DirectiveError for what cannot be honoured: a field that would change recipients or text, a test that must not be
sent, JSON that is none. Sources: the vendors' SMTP pages (SendGrid X-SMTPAPI, Mailgun X-Mailgun-*, Postmark X-PM-*,
Amazon SES X-SES-*, Mandrill X-MC-*, SparkPost X-MSYS-API, Mailjet X-MJ-* and X-Mailjet-*, Brevo X-Mailin-*,
Resend-Idempotency-Key, SendPost X-SendPost-* and X-SP-*, Postal X-Postal-Tag). docs/howto/directives.md lists them all.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

from relay.mail.directives import LONGEST_TAG, Directives, Draft
from relay.mail.errors import DirectiveError
from relay.mail.message import HeaderField, header_block, without_fields
from relay.mail.mime import decode_words

_DIRECTIVE: Final = re.compile(
    rb"(?im)^(?:x-(?:relay-|smtpapi|mailgun-|pm-|ses-|mc-|msys-api|mj-|mailjet-|mailin-|sib-|sendpost-|sp-"
    rb"|postal-tag)|resend-)[!-9;-~]*[ \t]*:"
)
_LONGEST_EXPIRE: Final = 2_592_000
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


def has_directives(header: bytes) -> bool:
    """Whether a header block holds a field of any dialect; cheap, for every message is asked."""
    lower = header.lower()
    if b"\nx-" not in lower and b"\nresend-" not in lower and not lower.startswith((b"x-", b"resend-")):
        return False
    return _DIRECTIVE.search(header) is not None


def without_directives(content: bytes, keep: str = "") -> bytes:
    """The message without the fields of any dialect but `keep`; the same object where there are none."""
    header = header_block(content)
    if not has_directives(header):
        return content
    kept = without_fields(header, lambda name: _dialect(name) not in (None, keep or None))
    return kept + content[len(header) :]


def read_directives(fields: Iterable[HeaderField]) -> Directives:
    """Everything the fields ask for. Raises DirectiveError with the field and what to do."""
    draft = Draft()
    for each in fields:
        dialect = _dialect(each.name)
        if dialect is not None:
            _read(draft, dialect, each.name, _value(each.text))
    return draft.done()


def _value(text: str) -> str:
    """One line. Mail libraries write what is beyond ASCII as encoded words (RFC 2047), in any field."""
    return _CONTROL.sub(" ", decode_words(text)[0] if "=?" in text else text).strip()


def _read(draft: Draft, dialect: str, name: str, value: str) -> None:
    for prefix in _METADATA_PREFIXES:
        if name.startswith(prefix) and len(name) > len(prefix):
            return draft.add_metadata(name.removeprefix(prefix), value)
    reader = _READERS.get(name)
    if reader is not None:
        return reader(draft, name, value)
    if name.startswith(_CHANGES_TEXT):
        raise DirectiveError(f"{name}: templates and variables are not filled in here; send the finished message")
    draft.own.append((dialect, name, value[:998]))
    return None


_Reader = Callable[[Draft, str, str], None]


# --- values ------------------------------------------------------------------------------------------------


def _object(name: str, value: str) -> dict[str, Any]:
    try:
        found = json.loads(value, parse_constant=_number, parse_float=_number)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise DirectiveError(f"{name}: not a JSON object; correct or remove it")
    return found


def _number(text: str) -> float:
    """NaN and Infinity are Python's, not JSON's (RFC 8259 §6), and so is 1e999: no provider could read them."""
    if not math.isfinite(number := float(text)):
        raise ValueError(text)
    return number


def _switch(name: str, value: str) -> bool:
    """Every spelling the vendors take."""
    word = value.lower()
    if word in ("yes", "true", "1", "on", "y", "htmlonly", "htmlandtext", "textonly"):
        return True
    if word in ("no", "false", "0", "off", "n", "none"):
        return False
    raise DirectiveError(f"{name}: {value[:40]!r} is neither yes nor no")


def _moment(name: str, value: str) -> float:
    """An RFC 5322 date, `2026-01-31 23:59:59` in UTC, ISO 8601, or seconds since the epoch."""
    if value.isascii() and value.isdecimal() and len(value) <= 12:
        return float(value)
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            found = read(value)
        except (ValueError, TypeError, IndexError, OverflowError):
            continue
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    raise DirectiveError(f"{name}: {value[:40]!r} is no date")


def _listed(value: str) -> list[str]:
    return value.split(",")


def _pairs(value: str) -> Iterator[tuple[str, str]]:
    """`a=1, b=2` (Amazon SES)."""
    for pair in value.split(","):
        key, sign, text = pair.partition("=")
        if sign and key.strip():
            yield key.strip(), text.strip()


# --- what fields mean --------------------------------------------------------------------------------------


def _tags(draft: Draft, name: str, value: str) -> None:
    draft.add_tags(_listed(value))


def _tag(draft: Draft, name: str, value: str) -> None:
    draft.add_tags([value])


def _json_metadata(draft: Draft, name: str, value: str) -> None:
    for key, item in _object(name, value).items():
        draft.add_metadata(str(key), item)


def _pair_metadata(draft: Draft, name: str, value: str) -> None:
    for key, item in _pairs(value):
        draft.add_metadata(key, item)


def _custom(draft: Draft, name: str, value: str) -> None:
    draft.add_metadata(name.rpartition("-")[2], value)


def _stream(draft: Draft, name: str, value: str) -> None:
    draft.set(stream=value[:LONGEST_TAG])


def _pool(draft: Draft, name: str, value: str) -> None:
    draft.set(pool=value[:LONGEST_TAG])


def _opens(draft: Draft, name: str, value: str) -> None:
    draft.set(track_opens=_switch(name, value))


def _clicks(draft: Draft, name: str, value: str) -> None:
    draft.set(track_clicks=_switch(name, value))


def _both(draft: Draft, name: str, value: str) -> None:
    draft.set(track_opens=_switch(name, value), track_clicks=_switch(name, value))


def _mandrill_track(draft: Draft, name: str, value: str) -> None:
    words = [word.strip().lower() for word in _listed(value)]
    draft.set(track_opens="opens" in words, track_clicks=any(word.startswith("clicks") for word in words))


def _send_at(draft: Draft, name: str, value: str) -> None:
    draft.set(send_at=_moment(name, value))


def _idempotency(draft: Draft, name: str, value: str) -> None:
    if not 1 <= len(value) <= 256:
        raise DirectiveError(f"{name}: 1 to 256 characters")
    draft.set(idempotency_key=value)


def _retry(draft: Draft, name: str, value: str) -> None:
    draft.set(retry=value[:64])


def _expire(draft: Draft, name: str, value: str) -> None:
    if not (value.isascii() and value.isdecimal() and len(value) <= 12 and 0 < int(value) <= _LONGEST_EXPIRE):
        raise DirectiveError(f"{name}: write the age in seconds, up to {_LONGEST_EXPIRE}")
    draft.set(expire=float(value))


def _test(draft: Draft, name: str, value: str) -> None:
    if value.lower() == "drop" or _switch(name, value):
        raise DirectiveError(f"{name}: asks for a test that is not sent, and this server sends; remove it")


def _changes_recipients(draft: Draft, name: str, value: str) -> None:
    raise DirectiveError(f"{name}: recipients come from RCPT TO alone; name them there and remove it")


def _sendgrid(draft: Draft, name: str, value: str) -> None:
    for key, item in _object(name, value).items():
        if key == "category":
            draft.add_tags(map(str, item) if isinstance(item, list) else [str(item)])
        elif key == "unique_args" and isinstance(item, dict):
            for each, text in item.items():
                draft.add_metadata(each, text)
        elif key == "filters" and isinstance(item, dict):
            _sendgrid_filters(draft, item)
        elif key in ("send_at", "ip_pool"):
            (_send_at if key == "send_at" else _pool)(draft, f"{name} {key}", str(item))
        elif key == "to":
            _changes_recipients(draft, f"{name} to", "")
        elif key in ("sub", "section", "send_each_at"):
            raise DirectiveError(f"{name} {key}: not filled in here; send each recipient the finished message")
        else:
            draft.own.append(("sendgrid", f"{name} {key}", json.dumps(item)[:998]))


def _sendgrid_filters(draft: Draft, filters: dict[str, Any]) -> None:
    for key, item in filters.items():
        settings = item.get("settings") if isinstance(item, dict) else None
        enabled = not isinstance(settings, dict) or str(settings.get("enable", 1)) in ("1", "True", "true")
        if key == "opentrack":
            draft.set(track_opens=enabled)
        elif key == "clicktrack":
            draft.set(track_clicks=enabled)
        elif enabled and key == "bcc":
            _changes_recipients(draft, "x-smtpapi filters bcc", "")
        elif enabled and key in ("footer", "template", "templates", "subscriptiontrack", "gravatar"):
            raise DirectiveError(f"x-smtpapi filters {key}: would change the text; send the finished message")
        else:
            draft.own.append(("sendgrid", f"x-smtpapi filters {key}", json.dumps(item)[:998]))


def _sparkpost(draft: Draft, name: str, value: str) -> None:
    for key, item in _object(name, value).items():
        if key in ("cc", "bcc", "archive") and item:
            _changes_recipients(draft, f"{name} {key}", "")
        elif key == "campaign_id":
            draft.set(stream=str(item)[:LONGEST_TAG])
        elif key == "tags" and isinstance(item, list):
            draft.add_tags(map(str, item))
        elif key == "metadata" and isinstance(item, dict):
            for each, text in item.items():
                draft.add_metadata(each, text)
        elif key == "options" and isinstance(item, dict):
            _sparkpost_options(draft, name, item)
        else:
            draft.own.append(("sparkpost", f"{name} {key}", json.dumps(item)[:998]))


def _sparkpost_options(draft: Draft, name: str, options: dict[str, Any]) -> None:
    readers: dict[str, _Reader] = {
        "open_tracking": _opens, "click_tracking": _clicks, "start_time": _send_at, "ip_pool": _pool, "sandbox": _test,
    }  # fmt: skip
    for key, item in options.items():
        if key in readers:
            readers[key](draft, f"{name} {key}", str(item))
        else:
            draft.own.append(("sparkpost", f"{name} options {key}", json.dumps(item)[:998]))


_METADATA_PREFIXES: Final = ("x-pm-metadata-", "x-relay-metadata-", "x-sendpost-metadata-", "x-sp-metadata-")
_CHANGES_TEXT: Final = (
    "x-mailgun-template-", "x-mailgun-recipient-variables", "x-mc-template", "x-mc-mergevars", "x-mc-mergelanguage",
    "x-mc-autotext", "x-mc-autohtml", "x-mc-inlinecss", "x-mj-template", "x-mj-vars", "x-mailin-templateid",
    "x-mailin-parameter",
)  # fmt: skip
_READERS: Final[dict[str, _Reader]] = {
    "x-relay-tag": _tags,
    "x-relay-stream": _stream,
    "x-relay-pool": _pool,
    "x-relay-track-opens": _opens,
    "x-relay-track-clicks": _clicks,
    "x-relay-send-at": _send_at,
    "x-relay-idempotency-key": _idempotency,
    "x-relay-retry": _retry,
    "x-relay-expire": _expire,
    "x-smtpapi": _sendgrid,
    "x-mailgun-tag": _tag,
    "x-mailgun-variables": _json_metadata,
    "x-mailgun-track": _both,
    "x-mailgun-track-opens": _opens,
    "x-mailgun-track-clicks": _clicks,
    "x-mailgun-deliver-by": _send_at,
    "x-mailgun-sending-ip-pool": _pool,
    "x-mailgun-drop-message": _test,
    "x-pm-tag": _tag,
    "x-pm-message-stream": _stream,
    "x-pm-trackopens": _opens,
    "x-pm-tracklinks": _clicks,
    "x-ses-message-tags": _pair_metadata,
    "x-ses-configuration-set": _stream,
    "x-mc-tags": _tags,
    "x-mc-metadata": _json_metadata,
    "x-mc-track": _mandrill_track,
    "x-mc-sendat": _send_at,
    "x-mc-subaccount": _stream,
    "x-mc-ippool": _pool,
    "x-mc-bccaddress": _changes_recipients,
    "x-msys-api": _sparkpost,
    "x-mj-customid": _custom,
    "x-mj-eventpayload": _custom,
    "x-mailjet-campaign": _stream,
    "x-mailjet-trackopen": _opens,
    "x-mailjet-trackclick": _clicks,
    "x-mailin-tag": _tag,
    "x-mailin-custom": _custom,
    "x-sib-sandbox": _test,
    "resend-idempotency-key": _idempotency,
    "x-sendpost-groups": _tags,
    "x-sp-groups": _tags,
    "x-sendpost-ippool": _pool,
    "x-sp-ippool": _pool,
    "x-sendpost-track-opens": _opens,
    "x-sp-track-opens": _opens,
    "x-sendpost-track-clicks": _clicks,
    "x-sp-track-clicks": _clicks,
    "x-sendpost-mock-email": _test,
    "x-postal-tag": _tag,
}
_DIALECTS: Final = (
    ("x-relay-", "relay"), ("x-smtpapi", "sendgrid"), ("x-mailgun-", "mailgun"), ("x-pm-", "postmark"),
    ("x-ses-", "ses"), ("x-mc-", "mandrill"), ("x-msys-api", "sparkpost"), ("x-mj-", "mailjet"),
    ("x-mailjet-", "mailjet"), ("x-mailin-", "brevo"), ("x-sib-", "brevo"), ("resend-", "resend"),
    ("x-sendpost-", "sendpost"), ("x-sp-", "sendpost"), ("x-postal-tag", "postal"),
)  # fmt: skip


def _dialect(name: str) -> str | None:
    """Whose field it is, None when it is just a field."""
    return next((dialect for prefix, dialect in _DIALECTS if name.startswith(prefix)), None)
