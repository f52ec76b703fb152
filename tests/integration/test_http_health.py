"""/healthz, /readyz and /metrics over TCP."""

from __future__ import annotations

import threading

import pytest
import uvloop
from fastapi import FastAPI
from http_setting import Heard, serving

from relay.httpd.application import make_app
from relay.httpd.health import health_router

TEXT = b'# HELP relay_x A metric\nrelay_x{listener="submission"} 1.0\n'


class Worker:
    """What the routes ask."""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.threads: set[int] = set()

    def not_ready(self) -> list[str]:
        return self.reasons

    def metrics(self) -> bytes:
        self.threads.add(threading.get_ident())
        return TEXT

    def app(self) -> FastAPI:
        app = make_app("http", Heard())
        app.include_router(health_router(self.not_ready, self.metrics, "text/plain; version=0.0.4; charset=utf-8"))
        return app


@pytest.fixture
def worker() -> Worker:
    return Worker()


def test_healthz_is_200_whatever_the_worker_lacks(worker: Worker) -> None:
    async def scenario() -> None:
        async with serving(worker.app()) as served:
            worker.reasons = ["draining"]
            answer = await served.ask("GET /healthz")
        assert (answer.status, answer.json) == (200, {"status": "ok"})

    uvloop.run(scenario())


def test_readyz_follows_the_reasons_and_names_them(worker: Worker) -> None:
    async def scenario() -> None:
        async with serving(worker.app()) as served:
            ready = await served.ask("GET /readyz")
            worker.reasons = ["draining", "the disk is full"]
            busy = await served.ask("GET /readyz")
            worker.reasons = []
            again = await served.ask("GET /readyz")
        assert (ready.status, ready.json) == (200, {"status": "ready", "reasons": []})
        assert (busy.status, busy.json) == (503, {"status": "not ready", "reasons": ["draining", "the disk is full"]})
        assert again.status == 200

    uvloop.run(scenario())


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_load_balancers_may_ask_for_the_head_alone(worker: Worker, path: str) -> None:
    async def scenario() -> None:
        async with serving(worker.app()) as served, served.connection() as client:
            await client.say(f"HEAD {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            received = await client.rest()
        assert received.startswith(b"HTTP/1.1 200 ")
        assert received.endswith(b"\r\n\r\n")

    uvloop.run(scenario())


def test_an_old_client_without_a_host_is_answered(worker: Worker) -> None:
    async def scenario() -> None:
        async with serving(worker.app()) as served, served.connection() as client:
            await client.say(b"GET /healthz HTTP/1.0\r\n\r\n")
            assert (await client.rest()).endswith(b'{"status":"ok"}')

    uvloop.run(scenario())


def test_metrics_come_as_they_are_and_are_collected_off_the_loop(worker: Worker) -> None:
    async def scenario() -> None:
        async with serving(worker.app()) as served:
            answer = await served.ask("GET /metrics")
        assert answer.body == TEXT
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"

    uvloop.run(scenario())
    assert worker.threads
    assert threading.get_ident() not in worker.threads
