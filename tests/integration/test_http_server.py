"""HttpServer and make_app, by bytes over TCP: answers, errors, and clients that mean harm."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Annotated, Any

import pytest
import uvloop
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from http_setting import Heard, serving
from pydantic import BaseModel, Field, field_validator

from relay.httpd.application import LARGEST_BODY, make_app
from relay.httpd.health import health_router
from relay.mail.errors import StoreError

GET = b"GET /plain HTTP/1.1\r\nHost: localhost\r\n"
LAST = GET + b"Connection: close\r\n"


class Letter(BaseModel):
    to: list[Annotated[str, Field(min_length=3)]]
    size: int

    @field_validator("size")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError("must be odd")
        return value


def application(heard: Heard, **options: Any) -> FastAPI:
    app = make_app("test", heard, **options)

    @app.get("/plain")
    async def plain() -> dict[str, bool]:
        return {"ok": True}

    @app.post("/letter")
    async def letter(letter: Letter) -> dict[str, int]:
        return {"size": letter.size}

    @app.post("/octets")
    async def octets(request: Request) -> dict[str, int]:
        return {"octets": len(await request.body())}

    @app.get("/bug")
    async def bug() -> None:
        raise ZeroDivisionError("the secret detail")

    @app.get("/store")
    async def store() -> None:
        raise StoreError("/secret/path: disk full")

    @app.get("/slow")
    async def slow(seconds: float) -> dict[str, bool]:
        await asyncio.sleep(seconds)
        return {"ok": True}

    app.state.held, app.state.release = 0, asyncio.Event()

    @app.get("/held")
    async def held() -> dict[str, bool]:
        app.state.held += 1
        await app.state.release.wait()
        return {"ok": True}

    @app.get("/half")
    async def half() -> StreamingResponse:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"first half"
            raise ZeroDivisionError

        return StreamingResponse(pieces())

    @app.get("/large")
    async def large() -> StreamingResponse:
        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(640):
                yield bytes(65_536)

        return StreamingResponse(pieces())

    return app


async def under_way(app: FastAPI, count: int) -> None:
    """Wait until so many requests to /held have come."""
    async with asyncio.timeout(60):
        while app.state.held < count:
            await asyncio.sleep(0.01)


@pytest.fixture
def heard() -> Heard:
    return Heard()


# --- answers and errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_an_answer_names_no_server_and_may_be_kept_by_nobody(heard: Heard, run: Any) -> None:
    async def scenario() -> None:
        async with serving(application(heard)) as served:
            answer = await served.ask("GET /plain")
        assert (answer.status, answer.json) == (200, {"ok": True})
        assert "server" not in answer.headers
        assert answer.headers["date"].endswith(" GMT")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"

    run(scenario())


def test_there_are_no_documentation_pages(heard: Heard) -> None:
    async def scenario() -> None:
        async with serving(application(heard)) as served:
            for path in ("/docs", "/redoc", "/openapi.json", "/"):
                assert (await served.ask(f"GET {path}")).error["code"] == "not_found"

    uvloop.run(scenario())


def test_what_is_not_there_and_what_is_not_allowed_are_json_errors(heard: Heard) -> None:
    async def scenario() -> None:
        async with serving(application(heard)) as served:
            missing = await served.ask("GET /nowhere")
            wrong = await served.ask("DELETE /plain")
            slash = await served.ask("GET /plain/", "Host: evil.example")
        assert (missing.status, missing.error["code"]) == (404, "not_found")
        assert (wrong.status, wrong.error["code"], wrong.headers["allow"]) == (405, "method_not_allowed", "GET")
        assert slash.status == 404
        assert "location" not in slash.headers

    uvloop.run(scenario())


def test_every_wrong_field_is_named_with_what_is_wrong(heard: Heard) -> None:
    async def scenario() -> None:
        async with serving(application(heard)) as served:
            answer = await served.ask("POST /letter", body={"to": ["abc", "x"], "size": 4})
            missing = await served.ask("POST /letter", body={"to": []})
            nothing = await served.ask("POST /letter")
        assert (answer.status, answer.error["code"]) == (422, "invalid")
        fields = {one["field"]: one["message"] for one in answer.error["fields"]}
        assert fields == {"to.1": "String should have at least 3 characters", "size": "must be odd"}
        assert missing.error["fields"] == [{"field": "size", "message": "Field required"}]
        assert nothing.error["fields"] == [{"field": "body", "message": "Field required"}]

    uvloop.run(scenario())


@pytest.mark.parametrize(
    "body",
    [b"{", b"\xff\xfe", b'{"a":', b"[" * 200_000, b'{"to": [], "size": ' + b"9" * 10_000 + b"}", b"\0"],
    ids=["open", "not-utf8", "cut", "deep", "huge-number", "nul"],
)
def test_a_body_that_is_no_json_is_a_400_and_no_bug(heard: Heard, body: bytes) -> None:
    async def scenario() -> None:
        async with serving(application(heard)) as served:
            answer = await served.ask("POST /letter", body=body)
            assert (await served.ask("GET /plain")).status == 200
        assert answer.status == 400
        assert set(answer.error) == {"code", "message"}
        assert heard.failures == []

    uvloop.run(scenario())


def test_bad_json_is_answered_with_its_place(heard: Heard) -> None:
    async def scenario() -> None:
        async with serving(application(heard)) as served:
            error = (await served.ask("POST /letter", body=b'{"to": oops}')).error
        assert error["code"] == "invalid_json"
        assert error["message"].endswith("at character 7")

    uvloop.run(scenario())


def test_a_thousand_wrong_fields_make_no_thousand_messages(heard: Heard) -> None:
    async def scenario() -> None:
        async with serving(application(heard)) as served:
            answer = await served.ask("POST /letter", body={"to": ["x"] * 1000, "size": 1})
        assert len(answer.error["fields"]) == 100

    uvloop.run(scenario())


def test_a_bug_is_answered_in_general_words_and_told_to_the_observer(heard: Heard) -> None:
    async def scenario() -> None:
        async with serving(application(heard)) as served, served.connection() as client:
            await client.say(b"GET /bug HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = await client.answer()
            await client.say(GET + b"\r\n")
            assert (await client.answer()).status == 200
        assert (answer.status, answer.error["code"]) == (500, "internal")
        assert b"secret" not in answer.body
        (failure,) = heard.failures
        assert isinstance(failure, ZeroDivisionError)
        assert failure.__traceback__ is not None

    uvloop.run(scenario())


def test_a_store_that_fails_is_a_503_in_general_words(heard: Heard) -> None:
    async def scenario() -> None:
        async with serving(application(heard)) as served:
            answer = await served.ask("GET /store")
        assert (answer.status, answer.error["code"]) == (503, "unavailable")
        assert b"secret" not in answer.body
        assert [type(one) for one in heard.failures] == [StoreError]

    uvloop.run(scenario())


def test_an_answer_that_breaks_in_the_middle_is_seen_to_be_cut(heard: Heard, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with serving(application(heard)) as served, served.connection() as client:
            await client.say(b"GET /half HTTP/1.1\r\nHost: localhost\r\n\r\n")
            received = await client.rest()
        assert b"first half" in received
        assert not received.endswith(b"0\r\n\r\n")
        assert [type(one) for one in heard.failures] == [ZeroDivisionError]

    uvloop.run(scenario())
    assert not [record for record in caplog.records if record.exc_info]


def test_the_observer_hears_of_every_request_once_and_of_no_query(heard: Heard) -> None:
    async def scenario() -> None:
        async with serving(application(heard)) as served:
            await served.ask("GET /plain?key=secret")
            await served.ask("GET /bug")
            await served.ask("POST /letter", body=b"x" * (LARGEST_BODY + 1))
            await served.ask("GET /nowhere")
        assert heard.requests == [
            ("test", "GET", "/plain", 200),
            ("test", "GET", "/bug", 500),
            ("test", "POST", "/letter", 413),
            ("test", "GET", "/nowhere", 404),
        ]

    uvloop.run(scenario())


# --- limits ------------------------------------------------------------------------------------------------


def test_a_client_that_asks_first_sends_no_body_over_the_limit(heard: Heard) -> None:
    head = b"POST /octets HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"

    async def scenario() -> None:
        async with serving(application(heard, largest_body=1000)) as served:
            async with served.connection() as client:
                await client.say(head % 1001)
                assert (await client.answer()).error["code"] == "too_large"
            async with served.connection() as client:
                await client.say(head % 1000)
                assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
                await client.say(b"x" * 1000)
                assert (await client.answer()).json == {"octets": 1000}

    uvloop.run(scenario())


def test_a_client_that_sends_first_reads_why_it_was_too_much(heard: Heard) -> None:
    """A connection closed with octets unread is reset, and takes the answer with it."""

    async def scenario() -> None:
        async with serving(application(heard)) as served:
            for _ in range(5):
                answer = await served.ask("POST /octets", body=b"x" * (LARGEST_BODY * 8))
                assert (answer.status, answer.error["code"]) == (413, "too_large")

    uvloop.run(scenario())


def test_far_too_much_is_not_even_thrown_away(heard: Heard) -> None:
    async def scenario() -> None:
        app = application(heard, largest_body=10_000)
        async with serving(app, request_seconds=1) as served, served.connection() as client:
            await client.say(b"POST /octets HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999999\r\n\r\n")
            sending = asyncio.create_task(client.say(b"x" * 400_000))
            assert (await client.answer()).status == 413
            await sending
            assert await client.rest() == b""

    uvloop.run(scenario())


def test_a_body_without_a_length_is_counted(heard: Heard) -> None:
    def chunked(*sizes: int) -> bytes:
        pieces = b"".join(b"%x\r\n" % size + b"x" * size + b"\r\n" for size in sizes)
        return b"POST /octets HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" + pieces + b"0\r\n\r\n"

    async def scenario() -> None:
        async with serving(application(heard, largest_body=1000)) as served:
            async with served.connection() as client:
                await client.say(chunked(500, 500))
                assert (await client.answer()).json == {"octets": 1000}
            async with served.connection() as client:
                await client.say(chunked(500, 500, 1))
                assert (await client.answer()).error["code"] == "too_large"
        assert heard.failures == []

    uvloop.run(scenario())


@pytest.mark.parametrize(
    "head",
    [
        LAST + b"X: " + b"x" * 100_000 + b"\r\n\r\n",
        LAST + b"".join(b"X-%d: %s\r\n" % (number, b"x" * 50) for number in range(2000)) + b"\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
        b"EHLO client.example\r\n\r\n",
        GET + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        GET + b"Content-Length: -1\r\n\r\n",
        GET + b"Content-Length: \xb2\r\n\r\n",
        GET + b"Host: other.example\r\n\r\n",
        b"GET /plain HTTP/1.1\r\n\r\n",
        GET + b"Transfer-Encoding: chunked\r\n\r\n-1\r\nx",
        b"POST /octets HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n-1\r\nx",
    ],
    ids=[
        "field",
        "fields",
        "path",
        "tls",
        "smtp",
        "two-lengths",
        "negative",
        "superscript",
        "two-hosts",
        "no-host",
        "chunk-at-once",
        "chunk-later",
    ],
)
def test_what_is_no_request_is_refused_without_a_word_in_the_log(
    heard: Heard, head: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with serving(application(heard)) as served:
            async with served.connection() as client:
                await client.say(head)
                assert (await client.rest()).startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 431 "))
            assert (await served.ask("GET /plain")).status == 200

    with caplog.at_level(logging.WARNING):
        uvloop.run(scenario())
    assert caplog.records == []
    assert heard.failures == []


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"GET /pl",
        GET,
        b"POST /octets HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\n\r\n",
        b"POST /octets HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n9999\r\n",
    ],
    ids=["nothing", "line", "header", "body", "chunk"],
)
def test_a_request_that_trickles_in_is_cut(heard: Heard, start: bytes) -> None:
    """However steadily: the whole request has its time."""

    async def scenario() -> None:
        async with serving(application(heard), request_seconds=0.3) as served, served.connection() as client:
            await client.say(start)
            began = time.monotonic()
            reading = asyncio.create_task(client.rest())
            async with asyncio.timeout(60):
                while not reading.done() and start:
                    client.writer.write(b"1")
                    await asyncio.sleep(0.02)
            assert b" 200 " not in await reading
            assert time.monotonic() - began > 0.2
        assert heard.failures == []

    uvloop.run(scenario())


def test_a_second_request_sent_along_with_the_first_has_no_more_time(heard: Heard) -> None:
    async def scenario() -> None:
        async with serving(application(heard), request_seconds=0.3) as served, served.connection() as client:
            await client.say(GET + b"\r\nPOST /octets HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n12345")
            assert (await client.answer()).status == 200
            assert await client.rest() == b""

    uvloop.run(scenario())


def test_a_request_that_came_whole_may_take_its_time(heard: Heard) -> None:
    async def scenario() -> None:
        async with serving(application(heard), request_seconds=0.2) as served, served.connection() as client:
            for _ in range(2):
                await client.say(b"GET /slow?seconds=0.4 HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert (await client.answer()).status == 200

    uvloop.run(scenario())


def test_a_client_that_does_not_read_is_cut(heard: Heard) -> None:
    async def scenario() -> None:
        async with serving(application(heard), reading_seconds=0.3) as served:
            with socket.create_connection(served.address) as deaf:
                deaf.sendall(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
                state = served.server._server.server_state
                async with asyncio.timeout(60):
                    while not state.connections:
                        await asyncio.sleep(0.01)
                    while state.connections or state.tasks:
                        await asyncio.sleep(0.01)

    uvloop.run(scenario())


def test_a_client_that_reads_slowly_gets_everything(heard: Heard) -> None:
    async def scenario() -> None:
        async with serving(application(heard), reading_seconds=60.0) as served, served.connection() as client:
            await client.say(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
            received = 0
            while data := await client.reader.read(1_048_576):
                received += len(data)
                if data.endswith(b"\r\n0\r\n\r\n"):
                    break
                await asyncio.sleep(0.001)
            assert received > 640 * 65_536

    uvloop.run(scenario())


def test_beyond_so_many_requests_at_a_time_only_health_is_answered(heard: Heard) -> None:
    async def scenario() -> None:
        app = application(heard, most_at_a_time=3)
        app.include_router(health_router(list, lambda: b"metric 1\n", "text/plain"))
        async with serving(app) as served:
            slow = [asyncio.create_task(served.ask("GET /held")) for _ in range(3)]
            await under_way(app, 3)
            for request, body in (("GET /plain", b""), ("POST /octets", b"x" * LARGEST_BODY * 4)):
                answer = await served.ask(request, body=body)
                assert (answer.status, answer.error["code"], answer.headers["retry-after"]) == (503, "busy", "1")
            for path in ("/healthz", "/readyz", "/metrics"):
                assert (await served.ask(f"GET {path}")).status == 200
            app.state.release.set()
            assert [answer.status for answer in await asyncio.gather(*slow)] == [200] * 3
            assert (await served.ask("GET /plain")).status == 200
        assert ("test", "GET", "/plain", 503) in heard.requests

    uvloop.run(scenario())


def test_idle_connections_keep_nobody_out(heard: Heard) -> None:
    async def scenario() -> None:
        async with serving(application(heard, most_at_a_time=2)) as served, AsyncExitStack() as idle:
            for _ in range(10):
                await idle.enter_async_context(served.connection())
            assert (await served.ask("GET /plain")).status == 200

    uvloop.run(scenario())


def test_a_connection_beyond_the_most_is_cut_and_the_others_live(heard: Heard) -> None:
    async def scenario() -> None:
        async with serving(application(heard), most_connections=2) as served:
            async with served.connection() as one, served.connection() as other:
                for client in (one, other):
                    await client.say(GET + b"\r\n")
                    assert (await client.answer()).status == 200
                async with served.connection() as third:
                    assert await third.rest() == b""
                await one.say(GET + b"\r\n")
                assert (await one.answer()).status == 200
            await asyncio.sleep(0.05)
            assert (await served.ask("GET /plain")).status == 200

    uvloop.run(scenario())


# --- life --------------------------------------------------------------------------------------------------


def test_a_request_under_way_is_answered_when_the_server_stops(heard: Heard) -> None:
    async def scenario() -> None:
        app = application(heard)
        async with serving(app) as served:
            asking = asyncio.create_task(served.ask("GET /held"))
            async with served.connection() as idle:
                await under_way(app, 1)
                asyncio.get_running_loop().call_later(0.2, app.state.release.set)
                await served.server.stop(60)
                assert (await asking).status == 200
                assert await idle.rest() == b""
            with pytest.raises(ConnectionRefusedError):
                await served.ask("GET /plain")

    uvloop.run(scenario())


def test_a_request_that_takes_too_long_is_told_to_come_again(heard: Heard, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        app = application(heard)
        async with serving(app) as served:
            asking = asyncio.create_task(served.ask("GET /held"))
            await under_way(app, 1)
            async with asyncio.timeout(60):
                await served.server.stop(1)
            answer = await asking
        assert (answer.status, answer.error["code"]) == (503, "stopping")
        assert heard.failures == []

    uvloop.run(scenario())
    assert not [record for record in caplog.records if record.exc_info]


def test_signals_stay_with_whoever_had_them(heard: Heard) -> None:
    async def scenario() -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, came.set)
        before = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
        async with serving(application(heard)) as served:
            assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == before
            signal.raise_signal(signal.SIGTERM)
            await asyncio.wait_for(came.wait(), 60)
            assert (await served.ask("GET /plain")).status == 200
        asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)

    came = asyncio.Event()
    uvloop.run(scenario())


def test_a_server_that_never_started_stops_and_closes_its_sockets(heard: Heard) -> None:
    from relay.httpd.server import HttpServer

    listening = socket.create_server(("127.0.0.1", 0))
    asyncio.run(HttpServer(application(heard), [listening]).stop(1))
    assert listening.fileno() == -1


def test_two_servers_share_a_loop(heard: Heard) -> None:
    async def scenario() -> None:
        async with serving(application(heard)) as one, serving(application(heard)) as other:
            answers = await asyncio.gather(*(each.ask("GET /plain") for each in (one, other) * 5))
        assert [json.loads(answer.body) for answer in answers] == [{"ok": True}] * 10

    uvloop.run(scenario())
