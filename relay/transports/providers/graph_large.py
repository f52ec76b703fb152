"""A message above 3 MB for Microsoft Graph: a draft without its last attachments, these one by one, and then /send.

In: the message, cut (mail/detach.py), and whose mailbox it is. Out: the first of a chain of calls; each follows from
the answer to the one before. Pure. Nothing is sent before the last call; where a call before it fails, or /send
refuses, the draft is taken away, whatever comes of that. An upload's own address needs no token, and gets none; of
what its host says a code alone is quoted.
Sources: Graph v1.0: "Create message" (MIME), "Add attachment" (below 3 MB), "attachment: createUploadSession" and
"Attach large files to Outlook messages" (up to 150 MB, pieces below 4 MB), "message: send".
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final
from urllib.parse import quote, urlsplit

from relay.mail.detach import Detached
from relay.mail.outcome import Deferred, Fault, InDoubt, Outcome
from relay.mail.parts import Attachment
from relay.mail.reply import printable, reply
from relay.transports.providers.answers import json_of
from relay.transports.providers.base import HttpRequest, HttpResponse
from relay.transports.providers.structured import as_json, needs_charset

SMALLEST_UPLOAD: Final = 3_000_000
"""Octets from which an attachment goes in pieces; a smaller one goes in JSON, as Graph wants it."""
PIECE: Final = 3_932_160
"""Octets of a piece, a multiple of 320 KiB."""
_LONGEST_URL: Final = 8_000
_CODE: Final = re.compile(r"[A-Za-z]{1,64}")
_JSON: Final = {"Content-Type": "application/json", "Accept": "application/json"}
_LOST: Final = Deferred(reply(451, "4.4.1", "Microsoft Graph: an upload was lost; nothing was sent"), Fault.HOST)


@dataclass(frozen=True, slots=True)
class Draft:
    """What all calls of one message need. `url` is that of the mailbox; `outcome` reads an answer."""

    url: str
    recipients: tuple[str, ...]
    attachments: tuple[Attachment, ...] = field(repr=False)
    outcome: Callable[[HttpResponse], Outcome]

    # --- calls ---------------------------------------------------------------------------------------------

    def begin(self, message: Detached) -> HttpRequest:
        """The draft itself. Its answer holds its id."""
        body = base64.b64encode(message.rest)
        headers = {"Content-Type": "text/plain", "Accept": "application/json"}
        return self._call("POST", f"{self.url}/messages", headers, body, follow=self._created)

    def _call(self, method: str, url: str, headers: Mapping[str, str], body: bytes, **more: Any) -> HttpRequest:
        return HttpRequest(method, url, headers, body, (self.recipients,), **{"prepares": True, **more})

    def _next(self, draft: str, number: int) -> HttpRequest:
        """The attachment `number`, or the end."""
        if number == len(self.attachments):
            return self._call("POST", f"{draft}/send", {"Accept": "application/json"}, b"", prepares=False,
                              follow=partial(self._sent, draft))  # fmt: skip
        one = self.attachments[number]
        if len(one.content) < SMALLEST_UPLOAD:
            body = as_json({"@odata.type": "#microsoft.graph.fileAttachment", **_described(one),
                            "contentBytes": base64.b64encode(one.content).decode("ascii")})  # fmt: skip
            return self._call(
                "POST", f"{draft}/attachments", _JSON, body, follow=partial(self._attached, draft, number)
            )
        item = {"AttachmentItem": {"attachmentType": "file", **_described(one), "size": len(one.content)}}
        opened = partial(self._opened, draft, number)
        return self._call("POST", f"{draft}/attachments/createUploadSession", _JSON, as_json(item), follow=opened)

    def _piece(self, draft: str, number: int, url: str, start: int) -> HttpRequest:
        content = self.attachments[number].content
        piece = content[start : start + PIECE]
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Range": f"bytes {start}-{start + len(piece) - 1}/{len(content)}",
        }
        follow = partial(self._uploaded, draft, number, url, start + len(piece))
        return self._call("PUT", url, headers, piece, follow=follow)

    def _given_up(self, draft: str, verdict: Outcome) -> HttpRequest:
        return self._call("DELETE", draft, {"Accept": "application/json"}, b"", verdict=verdict)

    # --- what follows --------------------------------------------------------------------------------------

    def _created(self, answer: HttpResponse | None, now: float) -> HttpRequest | None:
        """None: there is no draft that could be taken away."""
        found = json_of(answer) if answer is not None and answer.status == 201 else None
        name = _word(found.get("id")) if isinstance(found, dict) else ""
        return self._next(f"{self.url}/messages/{quote(name, safe='=')}", 0) if name else None

    def _attached(self, draft: str, number: int, answer: HttpResponse | None, now: float) -> HttpRequest:
        if answer is None or answer.status != 201:
            return self._failed(draft, answer)
        return self._next(draft, number + 1)

    def _opened(self, draft: str, number: int, answer: HttpResponse | None, now: float) -> HttpRequest:
        found = json_of(answer) if answer is not None and answer.status == 201 else None
        url = _word(found.get("uploadUrl")) if isinstance(found, dict) else ""
        if not _usable(url, self.url):
            return self._failed(draft, answer)
        return self._piece(draft, number, url, 0)

    def _uploaded(
        self, draft: str, number: int, url: str, done: int, answer: HttpResponse | None, now: float
    ) -> HttpRequest:
        last = done >= len(self.attachments[number].content)
        if answer is None or answer.status not in ((201,) if last else (200, 202)):
            return self._failed(draft, _by_its_code(answer))
        return self._next(draft, number + 1) if last else self._piece(draft, number, url, done)

    def _sent(self, draft: str, answer: HttpResponse | None, now: float) -> HttpRequest | None:
        """A draft that certainly was not sent goes; one that may have been is left alone."""
        if answer is None:
            return self._given_up(draft, _LOST)
        outcome = self.outcome(answer)
        certain = not 200 <= answer.status < 300 and not isinstance(outcome, InDoubt)
        return self._given_up(draft, outcome) if certain else None

    def _failed(self, draft: str, answer: HttpResponse | None) -> HttpRequest:
        """An acceptance that is none, or a doubt, is a failure here: nothing was sent."""
        outcome = self.outcome(answer) if answer is not None and answer.status >= 400 else _LOST
        return self._given_up(draft, _LOST if isinstance(outcome, InDoubt) else outcome)


def _by_its_code(answer: HttpResponse | None) -> HttpResponse | None:
    """Without its words: an upload's host may quote the address it was called at, which lets anybody write there."""
    found = json_of(answer) if answer is not None else None
    error = found.get("error") if isinstance(found, dict) else None
    code = error.get("code") if isinstance(error, dict) else None
    known = {"error": {"code": code}} if isinstance(code, str) and _CODE.fullmatch(code) else {}
    return replace(answer, headers={}, body=as_json(known)) if answer is not None else None


def _word(value: object) -> str:
    return value if isinstance(value, str) and len(value) <= _LONGEST_URL else ""


def _described(one: Attachment) -> dict[str, Any]:
    shown = {"isInline": True, "contentId": one.content_id} if one.inline and one.content_id else {}
    kind = f"{one.content_type}; charset={printable(one.charset, 40)}" if needs_charset(one) else one.content_type
    return {"name": one.filename or "attachment", "contentType": kind, **shown}


def _usable(url: str, api: str) -> bool:
    """As safe as the API itself; the guard looks at where it leads."""
    try:
        found = urlsplit(url)
        port = found.port
    except ValueError:
        return False
    plain = url.isascii() and url.isprintable() and " " not in url
    return plain and found.scheme == urlsplit(api).scheme and bool(found.hostname) and not found.username and port != 0
