"""The sandbox's inbox over TCP: a real inbox on disk, a real server, and web pages that mean harm."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop
from http_setting import Heard, Served, serving

from relay.auth.api_keys import ApiKeyVerifier, NewKey, generate_key
from relay.httpd.application import make_app
from relay.httpd.sandbox import sandbox_router
from relay.mail.session import SenderRights
from relay.ports import InboxMessage, StoredApiKey
from relay.store.inbox import Inbox

SIGNED = (
    b"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;\r\n\td=shop.example; s=r1;\r\n\th=from; bh=d=x; b=AAAA\r\n"
    b"DKIM-Signature: v=1; a=ed25519-sha256; d=shop.example; s=e1; b=BBBB\r\n"
)
MIXED = (
    SIGNED + b"From: =?utf-8?q?Gr=C3=BC=C3=9Fe?= <a@shop.example>\r\nTo: anna@x.example\r\n"
    b"Subject: =?utf-8?q?Sch=C3=B6n?=\r\n =?utf-8?q?_hier?=\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: multipart/mixed; boundary=B\r\n\r\n"
    b"--B\r\nContent-Type: multipart/alternative; boundary=A\r\n\r\n"
    b"--A\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nGr\xc3\xbc\xc3\x9fe\r\n"
    b"--A\r\nContent-Type: text/html\r\n\r\n<p>Hi</p>\r\n--A--\r\n"
    b'--B\r\nContent-Type: application/pdf\r\nContent-Disposition: attachment; filename="a.pdf"\r\n'
    b"Content-Transfer-Encoding: base64\r\n\r\nJVBERg==\r\n--B--\r\n"
)
PLAIN = b"From: a@b.example\r\nTo: anna@x.example\r\nSubject: Hello\r\n\r\nHello\r\n..\xff\0\r\n"
BROKEN = b"From: a@b.example\r\nContent-Type: multipart/mixed\r\n\r\nno boundary\r\n"
LARGEST_ID = 2**63 - 1


class Keys:
    """Enabled API keys."""

    def __init__(self, *keys: NewKey) -> None:
        self._stored = {key.id: StoredApiKey(key.id, "acme", SenderRights(), ("*",), key.digest) for key in keys}

    def find_api_key(self, key_id: str) -> StoredApiKey | None:
        return self._stored.get(key_id)


class Counting(Inbox):
    """Tells how often it was looked at."""

    looks = 0

    def list(self, **options: Any) -> Any:
        self.looks += 1
        return super().list(**options)


class Setting:
    """An inbox, a valid key, and a way to run a scenario against them."""

    def __init__(self, folder: Path) -> None:
        self.inbox = Counting(folder)
        self.inbox.open()
        self.key = generate_key()
        self.heard = Heard()

    def add(self, content: bytes = PLAIN, *to: str, at: float = 1_800_000_000.0, sender: str | None = "a@b.c") -> int:
        message = InboxMessage(0, at, sender, to or ("anna@x.example",), "TLSv1.3", "AES", "relay.example", 0)
        return self.inbox.add(message, content)

    def run(self, scenario: Callable[[Served], Awaitable[None]]) -> None:
        async def served() -> None:
            app = make_app("http", self.heard)
            app.include_router(sandbox_router(self.inbox, ApiKeyVerifier(Keys(self.key)).verify))
            async with serving(app) as one:
                await scenario(one)

        uvloop.run(served())


@pytest.fixture
def setting(tmp_path: Path) -> Any:
    setting = Setting(tmp_path)
    yield setting
    setting.inbox.close()


# --- reading -----------------------------------------------------------------------------------------------


def test_a_list_entry_holds_envelope_header_and_who_signed(setting: Setting) -> None:
    async def scenario(served: Served) -> None:
        answer = await served.ask("GET /sandbox/inbox")
        assert answer.json == {
            "messages": [
                {
                    "id": 1,
                    "received_at": "2027-01-15T08:00:00.000+00:00",
                    "mail_from": None,
                    "rcpt_to": ["anna@x.example", "berta@y.example"],
                    "from": "Grüße <a@shop.example>",
                    "to": "anna@x.example",
                    "subject": "Schön hier",
                    "tls": "TLSv1.3",
                    "size": len(MIXED),
                    "signed": [
                        {"a": "rsa-sha256", "d": "shop.example", "s": "r1"},
                        {"a": "ed25519-sha256", "d": "shop.example", "s": "e1"},
                    ],
                }
            ]
        }

    setting.add(MIXED, "anna@x.example", "berta@y.example", sender=None)
    setting.run(scenario)


def test_the_list_is_narrowed_by_recipient_number_time_and_limit(setting: Setting) -> None:
    async def scenario(served: Served) -> None:
        async def ids(query: str) -> list[int]:
            return [one["id"] for one in (await served.ask(f"GET /sandbox/inbox?{query}")).json["messages"]]

        assert await ids("") == [1, 2, 3, 4]
        assert await ids("to=ANNA@x.example") == [1, 3]
        assert await ids("to=anna%2B1@x.example") == [4]
        assert await ids("to=anna") == []
        assert await ids("after_id=2") == [3, 4]
        assert await ids(f"after_id={LARGEST_ID}") == []
        assert await ids("since=1800000002") == [3, 4]
        assert await ids("limit=2") == [3, 4]
        assert await ids("after_id=1&limit=1") == [2]

    for number, to in enumerate(("anna@x.example", "berta@x.example", "anna@x.example", "anna+1@x.example")):
        setting.add(PLAIN, to, at=1_800_000_000.0 + number)
    setting.run(scenario)


def test_a_message_is_shown_with_its_header_bodies_and_attachments(setting: Setting) -> None:
    async def scenario(served: Served) -> None:
        shown = (await served.ask("GET /sandbox/inbox/1")).json
        assert shown["subject"] == "Schön hier"
        assert shown["headers"][0][0] == "DKIM-Signature"
        assert ["Subject", "=?utf-8?q?Sch=C3=B6n?= =?utf-8?q?_hier?="] in shown["headers"]
        assert (shown["text"], shown["html"]) == ("Grüße", "<p>Hi</p>")
        pdf = {"filename": "a.pdf", "content_type": "application/pdf", "content_id": "", "inline": False, "size": 4}
        assert shown["attachments"] == [pdf]
        assert "problem" not in shown

    setting.add(MIXED)
    setting.run(scenario)


@pytest.mark.parametrize("content", [BROKEN, b"", b"no header\r\n", b"\r\n", b"\xff\xfe\0:\r\n\r\n" + bytes(300)])
def test_a_message_whose_parts_cannot_be_told_apart_is_shown_all_the_same(setting: Setting, content: bytes) -> None:
    async def scenario(served: Served) -> None:
        shown = (await served.ask("GET /sandbox/inbox/1")).json
        assert shown["text"] is None
        assert shown["problem"]
        assert (await served.ask("GET /sandbox/inbox/1/raw")).body == content

    setting.add(content)
    setting.run(scenario)
    assert setting.heard.failures == []


def test_raw_gives_the_bytes_as_they_came_and_no_browser_renders_them(setting: Setting) -> None:
    async def scenario(served: Served) -> None:
        answer = await served.ask("GET /sandbox/inbox/1/raw")
        assert answer.body == PLAIN
        assert answer.headers["content-type"] == "message/rfc822"
        assert answer.headers["x-content-type-options"] == "nosniff"

    setting.add(PLAIN)
    setting.run(scenario)


@pytest.mark.parametrize("path", ["/sandbox/inbox/2", "/sandbox/inbox/2/raw", f"/sandbox/inbox/{LARGEST_ID}"])
def test_what_is_not_in_the_inbox_is_404(setting: Setting, path: str) -> None:
    async def scenario(served: Served) -> None:
        answer = await served.ask(f"GET {path}")
        assert (answer.status, answer.error["code"]) == (404, "not_found")

    setting.add()
    setting.run(scenario)


def test_numbers_out_of_range_are_named(setting: Setting) -> None:
    wrong = {
        "/0": "number",
        "/-1": "number",
        f"/{LARGEST_ID + 1}": "number",
        "/abc/raw": "number",
        "?limit=0": "limit",
        "?limit=x": "limit",
        f"?after_id={LARGEST_ID + 1}": "after_id",
        "?since=nan": "since",
        "?since=-1": "since",
        "?wait=30.1": "wait",
        "?wait=nan": "wait",
    }

    async def scenario(served: Served) -> None:
        for path, field in wrong.items():
            answer = await served.ask(f"GET /sandbox/inbox{path}")
            assert answer.status == 422, path
            assert [one["field"] for one in answer.error["fields"]] == [field]

    setting.run(scenario)
    assert setting.heard.failures == []


def test_delete_empties_the_inbox_and_numbers_go_on(setting: Setting) -> None:
    async def scenario(served: Served) -> None:
        assert (await served.ask("DELETE /sandbox/inbox")).json == {"deleted": 2}
        assert (await served.ask("GET /sandbox/inbox")).json == {"messages": []}
        assert (await served.ask("GET /sandbox/inbox/1")).status == 404
        assert setting.add() == 3

    setting.add()
    setting.add()
    setting.run(scenario)


def test_an_inbox_that_cannot_be_read_is_a_503_that_keeps_its_path_to_itself(setting: Setting, tmp_path: Path) -> None:
    async def scenario(served: Served) -> None:
        for request in ("GET /sandbox/inbox", "GET /sandbox/inbox/1", "DELETE /sandbox/inbox"):
            answer = await served.ask(request)
            assert answer.status == 503
            assert str(tmp_path).encode() not in answer.body

    setting.inbox.close()
    for file in tmp_path.glob("inbox.db*"):
        file.write_bytes(b"no database " * 500)
    setting.run(scenario)
    assert len(setting.heard.failures) == 3


# --- waiting -----------------------------------------------------------------------------------------------


def test_waiting_ends_as_soon_as_the_message_is_there(setting: Setting) -> None:
    async def scenario(served: Served) -> None:
        asking = asyncio.create_task(served.ask("GET /sandbox/inbox?to=anna@x.example&after_id=1&wait=30"))
        await asyncio.sleep(0.2)
        setting.add(PLAIN, "berta@x.example")
        await asyncio.sleep(0.2)
        assert not asking.done()
        number = setting.add(PLAIN, "anna@x.example")
        async with asyncio.timeout(25):
            assert [one["id"] for one in (await asking).json["messages"]] == [number]

    setting.add()
    setting.run(scenario)


def test_waiting_for_nothing_ends_in_time_with_an_empty_list(setting: Setting) -> None:
    async def scenario(served: Served) -> None:
        began = time.monotonic()
        assert (await served.ask("GET /sandbox/inbox?wait=0.35")).json == {"messages": []}
        assert time.monotonic() - began > 0.3

    setting.run(scenario)


def test_nobody_waits_on_for_a_client_that_left(setting: Setting) -> None:
    async def scenario(served: Served) -> None:
        async with served.connection() as client:
            await client.say(b"GET /sandbox/inbox?wait=30 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            while not setting.inbox.looks:
                await asyncio.sleep(0.01)
        async with asyncio.timeout(60):
            while not setting.heard.requests:
                await asyncio.sleep(0.01)

    setting.run(scenario)
    assert setting.heard.failures == []


# --- who may ask -------------------------------------------------------------------------------------------

LOOPBACK = ["localhost", "localhost:8025", "LOCALHOST.", "127.0.0.1:8025", "127.1.2.3", "[::1]:8025", "[::1]"]
FOREIGN = [
    "evil.example", "evil.example:8025", "localhost.evil.example", "127.0.0.1.evil.example", "192.0.2.1",
    "[2001:db8::1]", "localhost@evil.example", "0.0.0.0", "[::1", "::1", "localhost:8025:1", ":8025", "[]",
]  # fmt: skip


def test_a_loopback_name_is_answered(setting: Setting) -> None:
    async def scenario(served: Served) -> None:
        for host in LOOPBACK:
            assert (await served.ask("GET /sandbox/inbox", f"Host: {host}")).status == 200, host

    setting.run(scenario)


def test_a_name_that_may_belong_to_others_is_refused(setting: Setting) -> None:
    """DNS rebinding: the page's own name, made to resolve to 127.0.0.1."""
    requests = ("GET /sandbox/inbox", "GET /sandbox/inbox/1", "GET /sandbox/inbox/1/raw", "DELETE /sandbox/inbox")

    async def scenario(served: Served) -> None:
        for host in FOREIGN:
            for request in requests:
                answer = await served.ask(request, f"Host: {host}")
                assert answer.status in (400, 403), host
                assert b"anna" not in answer.body

    setting.add()
    setting.run(scenario)
    assert len(setting.inbox.list()) == 1
    assert setting.heard.failures == []


@pytest.mark.parametrize(("client", "status"), [("127.0.0.1", 200), ("::1", 200), ("192.0.2.1", 403), (None, 403)])
def test_another_machine_is_refused_wherever_the_port_is_bound(
    setting: Setting, client: str | None, status: int
) -> None:
    app = make_app("http", setting.heard)
    app.include_router(sandbox_router(setting.inbox, ApiKeyVerifier(Keys()).verify))
    sent: list[dict[str, Any]] = []
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/sandbox/inbox",
        "raw_path": b"/sandbox/inbox",
        "query_string": b"",
        "headers": [(b"host", b"localhost")],
        "client": (client, 40_000) if client else None,
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    setting.add()
    asyncio.run(app(scope, receive, send))
    assert sent[0]["status"] == status


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ([], 200),
        (["Sec-Fetch-Site: none"], 200),
        (["Sec-Fetch-Site: same-origin", "Origin: http://localhost:8025", "Host: localhost:8025"], 200),
        (["Origin: http://localhost:8025", "Host: localhost:8025"], 200),
        (["Sec-Fetch-Site: cross-site"], 403),
        (["Sec-Fetch-Site: same-site"], 403),
        (["Origin: http://evil.example"], 403),
        (["Origin: http://localhost:3000", "Host: localhost:8025"], 403),
        (["Origin: null"], 403),
        (["Sec-Fetch-Site: none", "Origin: http://evil.example"], 403),
    ],
)
def test_only_a_page_of_its_own_may_empty_the_inbox(setting: Setting, fields: list[str], status: int) -> None:
    async def scenario(served: Served) -> None:
        assert (await served.ask("DELETE /sandbox/inbox", *fields)).status == status

    setting.add()
    setting.run(scenario)
    assert len(setting.inbox.list()) == (0 if status == 200 else 1)


def test_no_answer_allows_another_site_to_read_it(setting: Setting) -> None:
    async def scenario(served: Served) -> None:
        answer = await served.ask("GET /sandbox/inbox", "Origin: http://evil.example", "Sec-Fetch-Site: cross-site")
        assert not [name for name in answer.headers if name.startswith("access-control-")]
        preflight = await served.ask("OPTIONS /sandbox/inbox", "Origin: http://evil.example")
        assert preflight.status == 405

    setting.run(scenario)


def test_a_key_is_not_needed_but_one_that_is_given_has_to_be_valid(setting: Setting) -> None:
    async def scenario(served: Served) -> None:
        async def status(*fields: str) -> int:
            return (await served.ask("GET /sandbox/inbox", *fields)).status

        good, bad = setting.key.text, setting.key.text[:-1] + "!"
        assert await status() == 200
        assert await status(f"Authorization: Bearer {good}") == 200
        assert await status(f"authorization: bearer {good}") == 200
        assert await status(f"X-API-Key: {good}") == 200
        assert await status(f"Authorization: Bearer {bad}") == 401
        assert await status("Authorization: Bearer ") == 401
        assert await status("Authorization: Bearer") == 401
        assert await status("X-API-Key: ") == 401
        assert await status(f"X-API-Key: {generate_key().text}") == 401
        assert await status(f"X-API-Key: {good}", f"Authorization: Bearer {bad}") == 401
        assert await status(f"X-API-Key: {good}", f"X-API-Key: {bad}") == 401
        assert await status("X-API-Key: \xff\xfe") == 401
        assert await status("Authorization: Basic eDp5") == 200

    setting.run(scenario)
    assert setting.heard.failures == []
