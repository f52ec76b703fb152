"""Messages above 3 MB through Microsoft Graph: a draft, uploads, /send; and a fault at each of these steps.

The other side is a mailbox as Graph has one: it puts the draft and what is attached to it together again when it is
sent, and a mail program reads that.
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import email
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from email import policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from test_http_transport import FixedClock, Names, request_for

from relay.mail.outcome import Deferred, Failed, InDoubt, Outcome, Sent
from relay.ports import DeliveryReport
from relay.settings import ProviderSettings
from relay.transports.http import ProviderTransport
from relay.transports.providers import build_provider
from relay.transports.providers.base import Refusal
from relay.transports.providers.graph_large import PIECE

KEY = "token-0123456789"
USER = "/v1/users/app@example.org"
Step = Callable[[web.Request], web.Response | None]


@dataclass
class Mailbox:
    """Steps are `draft`, `file`, `session`, `piece`, `send`, `delete`; `faults` answer one of them instead."""

    drafts: dict[str, bytes] = field(default_factory=dict)
    files: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    sent: list[EmailMessage] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    faults: dict[str, Any] = field(default_factory=dict)
    tokens: list[tuple[str, str]] = field(default_factory=list)
    uploads: dict[str, bytearray] = field(default_factory=dict)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        step = self._step(request)
        self.steps.append(step)
        self.tokens.append((step, request.headers.get("Authorization", "")))
        body = await request.read()
        fault = self.faults.get(step)
        if fault == "drop":
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if fault == "done, then drop":
            getattr(self, f"_{step}")(request, body)
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if isinstance(fault, tuple):
            return web.json_response(fault[1], status=fault[0])
        found: web.Response = getattr(self, f"_{step}")(request, body)
        return found

    def _step(self, request: web.Request) -> str:
        last = request.path.rpartition("/")[2]
        if request.method in ("DELETE", "PUT"):
            return {"DELETE": "delete", "PUT": "piece"}[request.method]
        return {"messages": "draft", "attachments": "file", "createUploadSession": "session", "send": "send"}[last]

    def _draft(self, request: web.Request, body: bytes) -> web.Response:
        assert request.path == f"{USER}/messages"
        assert request.headers["Content-Type"] == "text/plain"
        assert len(body) <= 4_194_304
        name = f"AAMk{len(self.drafts)}="
        self.drafts[name], self.files[name] = base64.b64decode(body, validate=True), []
        return web.json_response({"id": name, "isDraft": True}, status=201)

    def _file(self, request: web.Request, body: bytes) -> web.Response:
        assert len(body) <= 4_194_304
        found = json.loads(body)
        assert found["@odata.type"] == "#microsoft.graph.fileAttachment"
        self.files[self._name(request)].append({**found, "content": base64.b64decode(found["contentBytes"])})
        return web.json_response({"id": "a"}, status=201)

    def _session(self, request: web.Request, body: bytes) -> web.Response:
        item = json.loads(body)["AttachmentItem"]
        assert item["size"] >= 3_000_000
        name = self._name(request)
        key = f"{name}{len(self.files[name])}"
        self.uploads[key] = bytearray()
        self.files[name].append({**item, "content": self.uploads[key]})
        url = f"{request.url.origin()}/upload/{key}?authtoken=secret"
        return web.json_response({"uploadUrl": url, "nextExpectedRanges": ["0-"]}, status=201)

    def _piece(self, request: web.Request, body: bytes) -> web.Response:
        key = request.path.rpartition("/")[2]
        start, _, rest = request.headers["Content-Range"].removeprefix("bytes ").partition("-")
        end, _, size = rest.partition("/")
        assert (int(start), int(end)) == (len(self.uploads[key]), len(self.uploads[key]) + len(body) - 1)
        assert len(body) < 4_194_304
        assert len(body) % 327_680 == 0 or int(end) + 1 == int(size)
        self.uploads[key] += body
        whole = len(self.uploads[key]) == int(size)
        return web.json_response(
            {} if whole else {"nextExpectedRanges": [f"{int(end) + 1}-"]}, status=201 if whole else 200
        )

    def _send(self, request: web.Request, body: bytes) -> web.Response:
        name = self._name(request)
        message = email.message_from_bytes(self.drafts.pop(name), policy=policy.SMTP)
        assert isinstance(message, EmailMessage)
        for one in self.files.pop(name):
            kind, _, subtype = one["contentType"].partition("/")
            message.add_attachment(bytes(one["content"]), maintype=kind, subtype=subtype, filename=one["name"])
        self.sent.append(message)
        return web.Response(status=202, headers={"request-id": "r-1"})

    def _delete(self, request: web.Request, body: bytes) -> web.Response:
        return web.Response(status=204 if self.drafts.pop(self._name(request), None) is not None else 404)

    def _name(self, request: web.Request) -> str:
        return request.path.split("/")[5]


def provider_settings(key: Path, port: int, **options: Any) -> ProviderSettings:
    return ProviderSettings.model_validate(
        {
            "kind": "graph", "api_key_file": key, "base_url": f"http://127.0.0.1:{port}/v1", "allow_private": True,
            "timeout": 20, "oauth": {"client_id": "app", "grant": "refresh_token", "refresh_token_file": key},
            "options": {"tenant": "example.org", "mailbox": "app@example.org", "upload": True, **options},
        }
    )  # fmt: skip


def deliver(mailbox: Mailbox, folder: Path, content: bytes) -> DeliveryReport:
    async def main() -> DeliveryReport:
        server = web.Application(client_max_size=8_388_608)
        server.router.add_route("*", "/{path:.*}", mailbox.handle)
        runner = web.AppRunner(server, handle_signals=False)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        key = folder / "key"
        key.write_text(KEY)
        settings = provider_settings(key, runner.addresses[0][1])
        transport = ProviderTransport("p", settings, build_provider("p", settings), FixedClock(), Names())
        transport._calls._line = dataclasses.replace(transport._calls._line, tokens=None)
        try:
            return await transport.deliver(request_for("rcpt@example.net"), content)
        finally:
            await transport.close()
            await runner.cleanup()

    return asyncio.run(main())


def files() -> dict[str, bytes]:
    noise = random.Random(7)
    return {"small.bin": noise.randbytes(40_000), "plan.pdf": noise.randbytes(5_000_000), "Größe.csv": b"a;b\r\n" * 9}


def message() -> bytes:
    made = EmailMessage(policy=policy.SMTP)
    made["From"], made["To"], made["Subject"] = "App <app@example.org>", "Rcpt <rcpt@example.net>", "Grüße"
    made["Message-ID"], made["X-Order"] = "<7@example.org>", "7"
    made.set_content("hello\n")
    made.add_alternative("<b>hello</b>\n", subtype="html")
    for name, content in files().items():
        made.add_attachment(content, maintype="application", subtype="octet-stream", filename=name)
    return made.as_bytes()


def outcome(report: DeliveryReport) -> Outcome:
    [found] = report.outcomes.values()
    return found


def test_a_large_message_arrives_equal(tmp_path: Path) -> None:
    """Header, bodies, and every attachment with its name and octets, in order; the upload has no token."""
    mailbox, content = Mailbox(), message()
    found = outcome(deliver(mailbox, tmp_path, content))

    assert isinstance(found, Sent)
    assert found.remote_id == "r-1"
    assert mailbox.steps == ["draft", "session", "piece", "piece", "file", "send"]
    [seen] = mailbox.sent
    given = email.message_from_bytes(content, policy=policy.SMTP)
    assert isinstance(given, EmailMessage)
    for name in ("From", "To", "Subject", "Message-ID", "X-Order"):
        assert seen[name] == given[name]
    for kind in ("plain", "html"):
        one, other = seen.get_body((kind,)), given.get_body((kind,))
        assert one is not None and other is not None  # noqa: PT018 - both are looked at below
        assert one.get_content() == other.get_content()
    assert {part.get_filename(): part.get_content() for part in seen.iter_attachments()} == files()
    assert [part.get_filename() for part in seen.iter_attachments()] == list(files())
    assert dict(mailbox.tokens) == {**dict.fromkeys(("draft", "session", "file", "send"), f"Bearer {KEY}"), "piece": ""}


BUSY = (503, {"error": {"code": "ErrorServerBusy", "message": "busy"}})
BEFORE_SEND = ["draft", "session", "piece", "file"]


@pytest.mark.parametrize("step", BEFORE_SEND)
@pytest.mark.parametrize(
    "fault", ["drop", "done, then drop", BUSY, (504, {}), (500, {}), (200, {}), (202, {}), (204, {})]
)
def test_before_send_nothing_is_sent_and_nothing_is_in_doubt(tmp_path: Path, step: str, fault: Any) -> None:
    """The draft is taken away, where its name is known; the mail waits, or goes another way."""
    if (step, fault) == ("piece", (200, {})):
        fault = (202, {})
    mailbox = Mailbox(faults={step: fault})
    found = outcome(deliver(mailbox, tmp_path, message()))

    assert isinstance(found, Deferred)
    assert mailbox.sent == []
    assert "send" not in mailbox.steps
    if step != "draft":
        assert mailbox.steps[-1] == "delete"
        assert mailbox.drafts == {}


@pytest.mark.parametrize("status", [403, 404, 400, 503])
@pytest.mark.parametrize("quoted", ["code", "message", "text"])
def test_what_an_uploads_host_says_of_its_address_is_kept_nowhere(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, status: int, quoted: str
) -> None:
    """The address lets anybody write there; a code that is one is told, for the operator."""
    quote = "PUT https://upload.example/u?authtoken=s3cr3t-t0ken%2Fx: s3cr3t-t0ken/x"
    said: dict[str, Any] = {
        "code": {"error": {"code": quote, "message": "no"}},
        "message": {"error": {"code": "ErrorAccessDenied", "message": quote}},
        "text": quote,
    }
    caplog.set_level("DEBUG")
    found = outcome(deliver(Mailbox(faults={"piece": (status, said[quoted])}), tmp_path, message()))

    assert isinstance(found, Deferred | Failed)
    assert ("ErrorAccessDenied" in found.reply.text) == (quoted == "message")
    assert f"HTTP {status}" in found.reply.text
    assert "s3cr3t" not in repr(found) + caplog.text


@pytest.mark.parametrize("fault", [(413, {}), (400, {"error": {"code": "ErrorInvalidRecipients", "message": "no"}})])
def test_a_refusal_on_the_way_is_the_messages_and_leaves_no_draft(tmp_path: Path, fault: Any) -> None:
    for step in ("session", "send"):
        mailbox = Mailbox(faults={step: fault})
        found = outcome(deliver(mailbox, tmp_path, message()))
        assert isinstance(found, Failed)
        assert (mailbox.sent, mailbox.drafts, mailbox.steps[-1]) == ([], {}, "delete")


@pytest.mark.parametrize("fault", ["drop", "done, then drop", (504, {}), (200, {})])
def test_a_lost_answer_to_send_is_a_doubt_and_its_draft_stays(tmp_path: Path, fault: Any) -> None:
    """It may have been sent; whoever takes the draft away would not know what of."""
    mailbox = Mailbox(faults={"send": fault})
    found = outcome(deliver(mailbox, tmp_path, message()))

    assert isinstance(found, InDoubt)
    assert mailbox.steps[-1] == "send"


def test_a_draft_that_cannot_be_taken_away_changes_nothing(tmp_path: Path) -> None:
    mailbox = Mailbox(faults={"file": BUSY, "delete": "drop"})
    found = outcome(deliver(mailbox, tmp_path, message()))

    assert isinstance(found, Deferred)
    assert "ErrorServerBusy" in found.reply.text


@pytest.mark.parametrize(
    "url", ["", "ftp://x/", "https://u@x/", "//x/y", "http://", "http://127.0.0.1:99999/", "http://x/\r\n", 7, None]
)
def test_an_address_for_uploads_that_is_none_is_not_called(tmp_path: Path, url: Any) -> None:
    mailbox = Mailbox(faults={"session": (201, {"uploadUrl": url})})
    found = outcome(deliver(mailbox, tmp_path, message()))

    assert isinstance(found, Deferred)
    assert mailbox.steps == ["draft", "session", "delete"]


@pytest.mark.parametrize(("upload", "words"), [(False, "552 5.3.4"), (True, "besides attachments at its end")])
def test_what_cannot_be_cut_or_may_not_is_refused(tmp_path: Path, upload: bool, words: str) -> None:
    """By its size, before anything is called."""
    settings = provider_settings(tmp_path, 1, upload=upload)
    text = b"From: app@example.org\r\nTo: rcpt@example.net\r\n\r\n" + b"x" * 70 + b"\r\n"
    found = build_provider("p", settings).render(request_for("rcpt@example.net"), text + text[-72:] * 60_000)

    assert isinstance(found, Refusal)
    assert words in str(found.reply)


def test_pieces_are_what_graph_takes() -> None:
    assert PIECE % 327_680 == 0
    assert PIECE < 4_194_304
