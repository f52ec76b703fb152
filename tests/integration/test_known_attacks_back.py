"""Attacks by what comes back, by who else is here, and by names that become paths; by their number in SECURITY.md."""

from __future__ import annotations

import asyncio
import base64
import csv
import io
import os
import re
import threading
from pathlib import Path

import pytest
from attacks import CA, at_door, says
from front_door import FrontDoor
from http_setting import Heard, Served, serving
from smtp_setting import letters, mx_to, request
from typer.testing import CliRunner

from relay.auth.api_keys import ApiKeyVerifier, generate_key
from relay.cli.main import app as root
from relay.delivery.notices import notice
from relay.httpd.application import make_app
from relay.httpd.hooks import hooks_router
from relay.httpd.sandbox import sandbox_router
from relay.mail.dsn import RecipientStatus
from relay.mail.envelope import Envelope, Recipient
from relay.mail.errors import OperatorError
from relay.mail.reply import Reply
from relay.mail.session import Session
from relay.ports import InboxMessage, QueuedMessage, SpfResult, SystemClock
from relay.signing.keys import KeyStore
from relay.store.inbox import Inbox

ROOT = Path(__file__).parents[2]
BODY = b"From: a@b.example\r\nMessage-ID: <1@b.example>\r\nSubject: one\r\n\r\none\r\n.\r\n"
TO_BOB = b"MAIL FROM:<a@b.example>\r\nRCPT TO:<bob@ours.example>\r\nDATA\r\n"


def login(name: str) -> bytes:
    return b"EHLO c.example\r\nAUTH PLAIN " + base64.b64encode(f"\0{name}\0secret".encode()) + b"\r\n"


# --- 2.18 pages, 2.20 paths, 2.21 time ---------------------------------------------------------------------

SCRIPTS = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "<svg/onload=alert(1)>",
    "javascript:alert(1)",
]


def test_2_18_no_mail_is_shown_as_a_page(tmp_path: Path) -> None:
    """JSON, or the message's own octets under their own type: no browser runs what is in them."""
    inbox = Inbox(tmp_path)
    inbox.open()
    for text in SCRIPTS:
        head = f'From: {text} <a@b.example>\r\nSubject: {text}\r\nContent-Type: text/html; name="{text}"\r\n\r\n{text}'
        inbox.add(InboxMessage(0, 1.0, text, (text,), "TLSv1.3", "AES", text, 0), head.encode())

    async def scene(served: Served) -> None:
        for path in ("", *(f"/{number}{raw}" for number in range(1, 5) for raw in ("", "/raw"))):
            answer = await served.ask(f"GET /sandbox/inbox{path}", "host: localhost")
            assert answer.status == 200
            assert answer.headers["content-type"] in ("application/json", "message/rfc822")
            assert answer.headers["x-content-type-options"] == "nosniff"

    asyncio.run(_served(inbox, scene))


def test_2_18_nothing_makes_pages() -> None:
    """No answer is HTML and none sends a browser on: there is no page that could be tricked."""
    sources = [path.read_text() for path in (ROOT / "relay/httpd").glob("*.py")]
    assert not re.search(
        r"HTMLResponse|RedirectResponse|FileResponse|StaticFiles|media_type=.text/html", "".join(sources)
    )


def test_2_18_no_cell_of_an_export_is_a_formula(tmp_path: Path) -> None:
    """An address may begin with `=`; what is exported is imported again as it was."""
    (tmp_path / "var").mkdir()
    config = tmp_path / "relay.toml"
    config.write_text(f'[server]\nvar = "{tmp_path / "var"}"\nhostname = "mx.example"\n')
    runner = CliRunner(env={"RELAY_CONFIG": str(config)})
    formulas = ["=cmd|'/C'!A0@x.example", "+1@x.example", "-1@x.example", "'plain@x.example", "plain@x.example"]

    def run(*arguments: str) -> str:
        result = runner.invoke(root, ["suppression", *arguments])
        assert result.exit_code == 0, result.output
        return result.stdout

    run("add", "--note", "=1+1", "--", *formulas)
    exported = run("export")
    cells = [cell for row in csv.reader(io.StringIO(exported)) for cell in row]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]
    (tmp_path / "list.csv").write_text(exported)
    run("remove", "--", *formulas)
    run("import", str(tmp_path / "list.csv"))
    assert run("export") == exported


async def _served(inbox: Inbox, scene) -> None:
    app = make_app("http", Heard())
    app.include_router(sandbox_router(inbox, ApiKeyVerifier(_NoKeys()).verify))
    app.include_router(hooks_router(dict, _nobody, _nobody, SystemClock(), _Deaf(), _NoDocuments()))
    async with serving(app) as served:
        await scene(served)


class _NoKeys:
    def find_api_key(self, key_id: str) -> None:
        return None


class _Deaf:
    def callback_refused(self, provider: str, words: str, *, forged: bool) -> None: ...

    def callback_taken(self, provider: str, known: int, strange: int, words: tuple[str, ...]) -> None: ...


class _NoDocuments:
    async def get(self, url: str) -> bytes:
        raise AssertionError(url)

    async def visit(self, url: str) -> None:
        raise AssertionError(url)


async def _nobody(reports) -> list[bool]:
    return [False for _ in reports]


@pytest.mark.parametrize(
    "name",
    ["../x", "a/../../x", "/etc/x", "..", ".", "", "a/b", "a\\b", "a\0b", "%2e%2e%2fx", "C:x", "a b", "-a", "a\n",
     "A" * 64, "a..b", ".hidden", "ä/ö"],
)  # fmt: skip
def test_2_20_no_name_of_a_key_leaves_its_folder(tmp_path: Path, name: str) -> None:
    keys = KeyStore(tmp_path / "keys")
    for domain, selector in ((name, "relay1"), ("example.com", name), (f"{name}.example.com", "relay1")):
        if (domain, selector) == ("-a.example.com", "relay1"):
            continue
        with pytest.raises(OperatorError):
            keys.add(domain, selector)
    assert not list(tmp_path.rglob("*.pem"))


def test_2_20_no_link_in_the_folder_of_keys_is_followed(tmp_path: Path) -> None:
    outside = KeyStore(tmp_path / "outside")
    outside.add("example.com")
    (tmp_path / "keys").mkdir(mode=0o700)
    os.symlink(tmp_path / "outside/example.com", tmp_path / "keys/example.com")
    with pytest.raises(OperatorError, match="symbolic link"):
        KeyStore(tmp_path / "keys")


@pytest.mark.parametrize(
    "path",
    ["/sandbox/inbox/../../etc/passwd", "/sandbox/inbox/%2e%2e%2fx", "/sandbox/inbox/1%00", "/sandbox/inbox/..%5cx",
     "/sandbox/inbox/-1", "/sandbox/inbox/1e9", "/hooks/../admin/reports", "/hooks/x/../../admin", "//evil.example/",
     "/hooks/ses/%2e%2e/admin", "/sandbox/inbox//raw", "/%2e%2e/%2e%2e/etc/passwd",
     "/sandbox/inbox/99999999999999999999"],
)  # fmt: skip
def test_2_20_and_2_17_no_path_leads_elsewhere(tmp_path: Path, path: str) -> None:
    """Neither to a file nor to another site."""
    inbox = Inbox(tmp_path)
    inbox.open()
    inbox.add(InboxMessage(0, 1.0, "a@b.c", ("d@e.f",), "", "", "", 0), b"Subject: x\r\n\r\n")

    async def scene(served: Served) -> None:
        answer = await served.ask(f"GET {path}", "host: localhost")
        assert answer.status in (404, 405, 422)
        assert "location" not in answer.headers

    asyncio.run(_served(inbox, scene))


def test_2_21_a_secret_is_compared_in_constant_time_or_by_its_hash() -> None:
    """Every comparison of what a client gives with what is secret goes through `compare_digest`."""
    given = re.compile(r"(?:==|!=)\s*[\w.]*(?:secret|token|signature|password|hmac|digest)\b|"
                       r"\b(?:secret|token|signature|password|hmac)\b\s*(?:==|!=)")  # fmt: skip
    rooms = ("auth", "httpd", "smtpd", "transports/providers")
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for room in rooms
        for path in (ROOT / "relay" / room).rglob("*.py")
        for line in path.read_text().splitlines()
        if given.search(line) and "compare_digest" not in line
    ]
    assert found == []


def test_2_21_a_key_that_is_nearly_right_is_as_wrong_as_any() -> None:
    """Looked up by its public half; its other half is compared as a hash."""

    class Keys:
        def __init__(self) -> None:
            self.asked: list[str] = []

        def find_api_key(self, key_id: str) -> None:
            self.asked.append(key_id)

    keys, key = Keys(), generate_key()
    assert [ApiKeyVerifier(keys).verify(key.text[:-1] + end) for end in "abc"] == [None] * 3
    assert set(keys.asked) == {key.id}


# --- 2.23 loops, 2.24 backscatter --------------------------------------------------------------------------


def test_2_23_two_hops_that_send_to_each_other_end(tmp_path: Path) -> None:
    """Each adds a Received field; the fiftieth is the last that is taken, and its sender is told once, by 5.4.6."""
    door = FrontDoor(tmp_path, CA, tls="none", role="mx")
    last: list[Reply] = []

    async def round_and_round() -> None:
        await door.beside(lambda: says(b"EHLO c.example\r\n" + TO_BOB + BODY + b"QUIT\r\n")(door))
        transport = mx_to(door.port)
        for sent in range(200):
            message = door.stored[sent]
            report = await transport.deliver(
                request(*message.envelope.recipients, sender="a@b.example"), message.content
            )
            if letters(report) != "D":
                last.extend(outcome.reply for outcome in report.outcomes.values())
                break
        await transport.close()

    asyncio.run(door.run(round_and_round))
    assert len(door.stored) == 101
    assert [str(one) for one in last] == ["554 5.4.6 Too many Received fields: this message is in a loop"]


def _failed(
    sender: str | None, *, username: str = "", **envelope: object
) -> tuple[QueuedMessage, list[RecipientStatus]]:
    answer = Reply.from_peer(550, "5.1.1 {{7*7}} \x1b[2J\r\nBcc: victim@x.example")
    status = RecipientStatus("x@ours.example", None, "failed", answer, "mx.example", "it was refused", "")
    whole = Envelope(sender, (Recipient("x@ours.example"),), **envelope)  # type: ignore[arg-type]
    return QueuedMessage("1" * 16, "", username, whole, 10, 1.0, (), ()), [status]


def test_2_23_a_notice_is_never_told_of_by_another() -> None:
    """Nor answered: it has no sender, says that a machine wrote it, and asks for no notice of its own."""
    message, statuses = _failed(None)
    assert notice(message, statuses, BODY, notice_id="2" * 16, hostname="mx.example", now=2.0) is None
    message, statuses = _failed("a@b.example")
    told = notice(message, statuses, BODY, notice_id="2" * 16, hostname="mx.example", now=2.0)
    assert told is not None
    assert (told.envelope.reverse_path, told.envelope.recipients[0].notify) == (None, ("NEVER",))
    header = told.content.partition(b"\r\n\r\n")[0]
    assert b"\r\nAuto-Submitted: auto-replied" in header


@pytest.mark.parametrize("username", ["", "app"])
def test_2_24_a_stranger_gets_no_message_sent_to_somebody_else_by_failing_it(username: str) -> None:
    """RET=FULL of who did not log in returns the header; and the words of a next hop are no header of ours."""
    message, statuses = _failed("victim@b.example", username=username, ret="FULL")
    spam = b"Subject: buy\r\n\r\n" + b"spam " * 100
    told = notice(message, statuses, spam, notice_id="2" * 16, hostname="mx.example", now=2.0, largest=100_000)
    assert told is not None
    assert (b"spam spam" in told.content) is (username == "app")
    assert b"\r\nBcc:" not in told.content
    assert b"\x1b" not in told.content


@pytest.mark.parametrize(("result", "told"), [("fail", False), ("softfail", False), ("none", True), ("pass", True)])
def test_2_24_nobody_is_told_of_mail_that_is_not_theirs(tmp_path: Path, result: str, told: bool) -> None:
    """A thousand forged senders of mail that fails later are a thousand strangers who hear nothing."""

    class Says:
        async def check(self, ip: str, helo: str, reverse_path: str | None) -> SpfResult:
            return SpfResult(result)  # type: ignore[arg-type]

    door = FrontDoor(tmp_path, CA, tls="none", role="mx")

    async def scene() -> None:
        session_of = says(b"EHLO c.example\r\n" + TO_BOB + BODY + b"QUIT\r\n")
        await door.beside(lambda: session_of(door))
        [taken] = door.stored
        stranger = Session("192.0.2.1", 1, "c.example", "ESMTP", "test")
        await door.intake.accept(stranger, taken.envelope, BODY, spf=await Says().check("", "", None))

    asyncio.run(door.run(scene))
    [recipient] = door.stored[-1].envelope.recipients
    assert recipient.wants_failure_notice is told


def test_2_24_who_is_nobody_here_is_refused_in_the_session(tmp_path: Path) -> None:
    """So that nothing has to be sent back later."""
    said: list[bytes] = []
    words = b"EHLO c.example\r\nMAIL FROM:<victim@b.example>\r\nRCPT TO:<x@elsewhere.example>\r\nQUIT\r\n"
    door = at_door(tmp_path, says(words, said))
    assert said[-2].startswith(b"550 5.7.1")
    assert door.stored == []


# --- 2.28 tenants and repetitions --------------------------------------------------------------------------


def test_2_28_one_message_of_a_login_is_stored_once_however_often_it_is_sent_at_a_time(tmp_path: Path) -> None:
    """Fifty sessions with the same message; the same of another login and another of the same are their own."""
    said: list[list[bytes]] = [[] for _ in range(52)]
    other = BODY.replace(b"one\r\n.", b"two\r\n.")
    words = [login("alice") + TO_BOB + BODY] * 50 + [login("bob") + TO_BOB + BODY, login("alice") + TO_BOB + other]

    def client(door: FrontDoor) -> None:
        clients = [
            threading.Thread(target=says(text + b"QUIT\r\n", replies), args=(door,))
            for text, replies in zip(words, said, strict=True)
        ]
        for one in clients:
            one.start()
        for one in clients:
            one.join()

    door = at_door(tmp_path, client, role="submission", plaintext_auth=True, shielded=True, guard={"connections": 0})
    assert len(door.stored) == 3
    assert sorted((one.username, (one.content or b"")[-5:]) for one in door.stored) == [
        ("alice", b"one\r\n"), ("alice", b"two\r\n"), ("bob", b"one\r\n"),
    ]  # fmt: skip
    answers = [replies[-2] for replies in said[:50]]
    assert {answer[:19] for answer in answers} <= {
        b"250 2.0.0 Ok: queue",
        b"250 2.0.0 Ok: dupli",
        b"450 4.3.0 The same ",
    }
    ids = {answer.rpartition(b" ")[2] for answer in answers if answer.startswith(b"250")}
    assert len(ids) == 1


def test_2_28_an_id_tells_a_stranger_nothing(tmp_path: Path) -> None:
    """No port says anything of a message by its id; callbacks need the provider's secret address."""
    inbox = Inbox(tmp_path)
    inbox.open()

    async def scene(served: Served) -> None:
        for path in ("/hooks/ses/1", "/hooks/ses/" + "0" * 32, "/admin/reports", "/queue/1", "/messages/1"):
            for verb in ("GET", "POST"):
                answer = await served.ask(f"{verb} {path}", "host: localhost", body=b"{}" if verb == "POST" else b"")
                assert answer.status == 404

    asyncio.run(_served(inbox, scene))
