"""The sandbox MX, driven by smtplib over real sockets: it keeps what it takes and fails as the local part asks."""

from __future__ import annotations

import asyncio
import re
import smtplib
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest
import trustme
import uvloop

from relay.mail.errors import OperatorError, StoreError
from relay.ports import InboxMessage, SystemClock
from relay.smtpd.sandbox_mx import SandboxMx
from relay.smtpd.sandbox_rules import rule_for
from relay.store.inbox import Inbox

MESSAGE = b"From: a@b.example\r\nSubject: hello\r\n\r\nHi\r\n"
SENDER = "a@b.example"


class _Setting:
    """An inbox, certificates, and a way to run a server with a blocking client beside it."""

    def __init__(self, folder: Path, authority: trustme.CA) -> None:
        self.inbox = Inbox(folder)
        self.errors: list[BaseException] = []
        self.server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(self.server_tls)
        self.client_tls = ssl.create_default_context()
        authority.configure_trust(self.client_tls)
        self.port = 0

    def run(
        self,
        client: Callable[[], object],
        runner: Callable[[Awaitable[None]], None] = asyncio.run,  # type: ignore[assignment]
        **options: float,
    ) -> None:
        """Serve while `client` runs in a thread."""

        async def serve() -> None:
            self.inbox.open()
            mx = SandboxMx(
                self.inbox, self.server_tls, SystemClock(), self.errors.append,
                **{"silence": 0.2, "slowness": 0.05, **options},
            )  # fmt: skip
            await mx.start()
            self.port = mx.port
            try:
                await asyncio.wait_for(asyncio.to_thread(client), 120)
            finally:
                await mx.stop()
                self.inbox.close()

        runner(serve())

    def connect(self, *, tls: bool = True) -> smtplib.SMTP:
        client = smtplib.SMTP("localhost", self.port, local_hostname="client.example", timeout=60)
        client.ehlo()
        if tls:
            client.starttls(context=self.client_tls)
            client.ehlo()
        return client

    def send(self, *recipients: str, content: bytes = MESSAGE, tls: bool = True) -> None:
        with closing(self.connect(tls=tls)) as client:
            client.sendmail(SENDER, recipients, content)

    def refusal(self, recipient: str) -> tuple[int, bytes]:
        """The one refusal `recipient` gets at RCPT TO."""
        with pytest.raises(smtplib.SMTPRecipientsRefused) as caught:
            self.send(recipient)
        return caught.value.recipients[recipient]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def setting(tmp_path: Path, authority: trustme.CA) -> _Setting:
    return _Setting(tmp_path, authority)


@pytest.mark.parametrize("runner", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_a_message_arrives_whole_with_envelope_and_tls(setting: _Setting, runner: Callable[..., None]) -> None:
    """Any domain's mail is kept byte for byte, with who sent it to whom over which TLS."""
    content = b"Subject: =?utf-8?q?h=C3=A9?=\r\n\r\n.dot first\r\n..two\r\n" + b"x" * 3_000_000 + b"\r\n\xe9\r\n"

    setting.run(lambda: setting.send("bob@any.example", "carol@other.example", content=content), runner)

    (message,) = setting.inbox.list()
    assert message.mail_from == SENDER
    assert message.rcpt_to == ("bob@any.example", "carol@other.example")
    assert message.tls == "TLSv1.3"
    assert message.helo == "client.example"
    assert message.size == len(content)
    assert setting.inbox.raw(message.id) == content
    assert setting.errors == []


def test_announces_what_a_modern_mx_does_and_no_auth(setting: _Setting) -> None:
    """EHLO offers SIZE, 8BITMIME, SMTPUTF8, PIPELINING and, before TLS only, STARTTLS; never AUTH."""
    offered: list[set[str]] = []

    def client() -> None:
        with closing(setting.connect(tls=False)) as plain:
            offered.append(set(plain.esmtp_features))
        with closing(setting.connect()) as secured:
            offered.append(set(secured.esmtp_features))

    setting.run(client)

    common = {"size", "8bitmime", "smtputf8", "pipelining", "enhancedstatuscodes"}
    assert offered == [common | {"starttls"}, common]


def test_null_sender_and_utf8_addresses_are_kept(setting: _Setting) -> None:
    """`MAIL FROM:<>` is None in the inbox, and internationalised addresses come back as written."""

    def client() -> None:
        with closing(setting.connect()) as smtp:
            assert smtp.docmd("MAIL FROM:<>")[0] == 250
            assert smtp.docmd("RCPT TO:<bob@any.example>")[0] == 250
            assert smtp.data(MESSAGE)[0] == 250
        with closing(setting.connect()) as smtp:
            smtp.command_encoding = "utf-8"
            assert smtp.docmd("MAIL FROM:<användare@exämple.se> SMTPUTF8")[0] == 250
            assert smtp.docmd("RCPT TO:<käthe@bücher.example>")[0] == 250
            assert smtp.data(MESSAGE)[0] == 250

    setting.run(client)

    bounce, international = setting.inbox.list()
    assert bounce.mail_from is None
    assert international.mail_from == "användare@exämple.se"
    assert international.rcpt_to == ("käthe@bücher.example",)


def test_octets_that_are_no_utf8_are_refused_not_an_error(setting: _Setting) -> None:
    """A broken address gets 553 and the session goes on."""

    def client() -> None:
        with closing(setting.connect()) as smtp:
            smtp.command_encoding = "latin-1"
            assert smtp.docmd("MAIL FROM:<caf\xe9@b.example>")[0] == 553
            assert smtp.docmd("MAIL FROM:<a@b.example>")[0] == 250
            assert smtp.docmd("RCPT TO:<caf\xe9@b.example>")[0] == 553

    setting.run(client)

    assert setting.errors == []


_STATUS = re.compile(rb"[45]\.\d{1,3}\.\d{1,3} ")


@pytest.mark.parametrize("code", [421, 450, 451, 452, 454, 550, 551, 552, 553, 554, 556, 521, 402])
def test_a_code_as_local_part_is_answered_to_rcpt(setting: _Setting, code: int) -> None:
    """`NNN@` and `NNN+tag@` get that code with an enhanced status of its class; nothing is stored."""

    def client() -> None:
        for recipient in (f"{code}@any.example", f"{code}+tag@any.example"):
            if code == 421:
                with closing(setting.connect()) as smtp:
                    smtp.mail(SENDER)
                    answer = smtp.rcpt(recipient)
                    with pytest.raises(smtplib.SMTPServerDisconnected):
                        smtp.noop()
            else:
                answer = setting.refusal(recipient)
            assert answer[0] == code
            assert _STATUS.match(answer[1])
            assert answer[1].startswith(str(code // 100).encode())

    setting.run(client)

    assert setting.inbox.list() == []


@pytest.mark.parametrize("code", [451, 550, 552])
def test_a_data_code_is_answered_to_the_final_dot(setting: _Setting, code: int) -> None:
    """`data-NNN@` passes RCPT TO and fails at the end of data, for all recipients together."""

    def client() -> None:
        with pytest.raises(smtplib.SMTPDataError) as caught:
            setting.send("good@any.example", f"data-{code}@any.example")
        assert caught.value.smtp_code == code

    setting.run(client)

    assert setting.inbox.list() == []


def test_one_refused_recipient_does_not_cost_the_others(setting: _Setting) -> None:
    """Beside `550@` the good recipients get their mail."""
    setting.run(lambda: setting.send("550@any.example", "good@any.example", "451@any.example"))

    (message,) = setting.inbox.list()
    assert message.rcpt_to == ("good@any.example",)


@pytest.mark.parametrize("runner", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("word", ["close", "reset", "timeout", "data-close", "data-reset", "data-timeout"])
def test_the_connection_ends_without_an_answer(
    setting: _Setting, word: str, tls: bool, runner: Callable[..., None]
) -> None:
    """`close`, `reset` and `timeout` lose the connection where the reply was due; `timeout` after its silence."""
    waited: list[float] = []

    def client() -> None:
        with closing(setting.connect(tls=tls)) as smtp:
            smtp.mail(SENDER)
            if word.startswith("data-"):
                assert smtp.rcpt(f"{word}@any.example")[0] == 250
            started = time.monotonic()
            with pytest.raises((smtplib.SMTPServerDisconnected, OSError)) as ended:
                smtp.data(MESSAGE) if word.startswith("data-") else smtp.rcpt(f"{word}@any.example")
            waited.append(time.monotonic() - started)
            assert "timed out" not in str(ended.value)
        setting.send("good@any.example", tls=tls)

    silence = 0.2 if word.endswith("timeout") else 3600.0
    setting.run(client, runner, silence=silence)

    assert waited[0] > 0.19 or silence > 1
    assert [message.rcpt_to for message in setting.inbox.list()] == [("good@any.example",)]
    assert setting.errors == []


@pytest.mark.parametrize("runner", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_reset_is_a_tcp_reset(setting: _Setting, runner: Callable[..., None]) -> None:
    """`reset@` sends RST, not FIN."""

    def client() -> None:
        with closing(setting.connect(tls=False)) as smtp:
            smtp.mail(SENDER)
            smtp.send("RCPT TO:<reset@any.example>\r\n")
            assert smtp.sock is not None
            with pytest.raises(ConnectionResetError):
                smtp.sock.recv(1000)

    setting.run(client, runner)


def test_greylist_refuses_each_pair_once(setting: _Setting) -> None:
    """`greylist@` is 450 the first time for a sender and recipient, then accepted; tags make other recipients."""

    def client() -> None:
        for recipient in ("greylist@any.example", "greylist+2@any.example"):
            assert setting.refusal(recipient)[0] == 450
            setting.send(recipient)

    setting.run(client)

    assert len(setting.inbox.list()) == 2


def test_slow_accepts_late(setting: _Setting) -> None:
    """`slow@` is accepted after the configured delay, and `data-slow@` after the final dot."""
    started = time.monotonic()

    setting.run(lambda: setting.send("slow@any.example", "data-slow@any.example"), slowness=0.2)

    assert time.monotonic() - started > 0.39
    assert len(setting.inbox.list()) == 1


@pytest.mark.parametrize("runner", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_tls_broken_fails_the_next_handshake_and_takes_plain_text(
    setting: _Setting, runner: Callable[..., None]
) -> None:
    """`tls-broken@` inside TLS is deferred, the next STARTTLS fails in its handshake, without TLS it is accepted."""

    def client() -> None:
        assert setting.refusal("tls-broken@any.example")[0] == 454
        with pytest.raises(ssl.SSLError, match="HANDSHAKE_FAILURE"):
            setting.connect()
        setting.send("tls-broken@any.example", tls=False)
        setting.send("good@any.example")

    setting.run(client, runner)

    assert [message.tls for message in setting.inbox.list()] == [None, "TLSv1.3"]


def test_sendpost_test_addresses(setting: _Setting) -> None:
    """The documented addresses answer as documented, and only at SendPost's domain."""
    domain = "playwithsendpost.io"

    def client() -> None:
        setting.send(f"test@{domain}", f"deliver@{domain}", "hardbounce@any.example")
        hard, soft, dropped = (setting.refusal(f"{word}@{domain}") for word in ("hardbounce", "softbounce", "dropped"))
        assert (hard[0], hard[1][:6]) == (550, b"5.1.1 ")
        assert (soft[0], soft[1][:6]) == (451, b"4.2.2 ")
        assert (dropped[0], dropped[1][:6]) == (550, b"5.7.1 ")
        assert setting.refusal(f"softbounce@{domain}")[0] == 451

    setting.run(client)

    assert len(setting.inbox.list()) == 1


def test_messages_beyond_size_are_refused_after_reading_them(setting: _Setting) -> None:
    """Data over SIZE is 552, whatever MAIL announced, and the session stays usable."""

    def client() -> None:
        with closing(setting.connect()) as smtp:
            smtp.mail(SENDER)
            smtp.rcpt("bob@any.example")
            assert smtp.data(b"x" * 200_000)[0] == 552
            assert smtp.mail(SENDER)[0] == 250
            assert smtp.rcpt("bob@any.example")[0] == 250
            assert smtp.data(b"y" * 99_000)[0] == 250

    setting.run(client, size_limit=100_000)

    assert [message.size for message in setting.inbox.list()] == [99_002]


@pytest.mark.parametrize(
    ("wire", "stored"),
    [
        (b".\r\n", b""),
        (b"\r\n.\r\n", b"\r\n"),
        (b"a\r\n.\r\n", b"a\r\n"),
        (b"..\r\n.\r\n", b".\r\n"),
        (b"a.\r\nb\r\n.\r\n", b"a.\r\nb\r\n"),
        (b"a\n.\r\nb\r\n.\r\n", b"a\n.\r\nb\r\n"),
        (b"a\r\n.\nb\r\n.\r\n", b"a\r\n\nb\r\n"),
        (b"a\r.\r\nb\r\n.\r\n", b"a\r.\r\nb\r\n"),
    ],
)
@pytest.mark.parametrize("bytewise", [False, True])
def test_only_crlf_dot_crlf_ends_a_message(setting: _Setting, wire: bytes, stored: bytes, bytewise: bool) -> None:
    """Bare line ends around a dot do not end data, however the octets are cut on their way."""

    def client() -> None:
        with closing(setting.connect(tls=False)) as smtp:
            smtp.mail(SENDER)
            smtp.rcpt("bob@any.example")
            assert smtp.docmd("DATA")[0] == 354
            assert smtp.sock is not None
            smtp.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for piece in [bytes([octet]) for octet in wire] if bytewise else [wire]:
                smtp.sock.sendall(piece)
            assert smtp.getreply()[0] == 250

    setting.run(client)

    (message,) = setting.inbox.list()
    assert setting.inbox.raw(message.id) == stored


def test_pipelined_commands_are_answered_in_order(setting: _Setting) -> None:
    """A client that sends MAIL, RCPT and DATA at once gets each answer in its place."""

    def client() -> None:
        with closing(setting.connect()) as smtp:
            smtp.send(
                "MAIL FROM:<a@b.example> BODY=8BITMIME\r\nRCPT TO:<550@x.example>\r\nRCPT TO:<ok@x.example>\r\nDATA\r\n"
            )
            assert [smtp.getreply()[0] for _ in range(4)] == [250, 550, 250, 354]
            smtp.send(MESSAGE + b".\r\nQUIT\r\n")
            assert [smtp.getreply()[0] for _ in range(2)] == [250, 221]

    setting.run(client)

    assert len(setting.inbox.list()) == 1


def test_a_full_disk_is_temporary_and_reported(setting: _Setting) -> None:
    """An inbox that cannot store makes 451 4.3.0, keeps its detail to itself, and tells the log."""

    class Broken:
        def add(self, message: InboxMessage, content: bytes) -> int:
            raise StoreError("/secret/inbox.db: disk full")

    async def serve() -> None:
        mx = SandboxMx(Broken(), None, SystemClock(), setting.errors.append)
        await mx.start()
        setting.port = mx.port

        def client() -> None:
            with pytest.raises(smtplib.SMTPDataError) as caught:
                setting.send("bob@any.example", tls=False)
            assert (caught.value.smtp_code, caught.value.smtp_error) == (
                451,
                b"4.3.0 Internal error, try again later",
            )

        await asyncio.to_thread(client)
        await mx.stop()

    asyncio.run(serve())

    assert [type(error) for error in setting.errors] == [StoreError]


def test_a_taken_port_is_one_line_with_the_fix(setting: _Setting) -> None:
    """A port in use raises OperatorError that names it."""

    async def serve() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            mx = SandboxMx(setting.inbox, None, SystemClock(), setting.errors.append, port=port)
            with pytest.raises(
                OperatorError, match=f"sandbox MX: cannot listen on 127.0.0.1:{port}: the port is taken"
            ):
                await mx.start()

    asyncio.run(serve())


@pytest.mark.parametrize(
    "address", ["bob@x.example", "600@x.example", "399@x.example", "45@x.example", "4510@x.example", "data-@x.example",
                "data-greylist@x.example", "hardbounce@x.example", "x451@x.example", "@x.example", "٤٥١@x.example"]
)  # fmt: skip
def test_other_local_parts_are_accepted(address: str) -> None:
    """Only the documented words misbehave."""
    assert rule_for(address) is None
