"""Callbacks over HTTP: what is answered, and that one which comes too early finds its message a little later."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from http_setting import Heard, serving

from relay.httpd.application import make_app
from relay.httpd.hooks import MOST_WAITING, hooks_router
from relay.ports import Report, SystemClock
from relay.settings import ProviderSettings
from relay.transports.build import Door
from relay.transports.providers import build_provider
from relay.transports.providers.base import Callback, CallbackError, Provider, ProviderEvent

TOKEN = "0123456789abcdef"


class Observer:
    def __init__(self) -> None:
        self.refused: list[tuple[str, bool]] = []
        self.taken: list[tuple[int, int]] = []

    def callback_refused(self, provider: str, words: str, *, forged: bool) -> None:
        self.refused.append((words, forged))

    def callback_taken(self, provider: str, known: int, strange: int, words: tuple[str, ...]) -> None:
        self.taken.append((known, strange))


class Spools:
    """Two workers: what each knows, and how often it was asked."""

    def __init__(self) -> None:
        self.own: set[str] = set()
        self.others: set[str] = set()
        self.asked = 0
        self.came = asyncio.Event()

    async def ask_own(self, reports: Sequence[Report]) -> list[bool]:
        self.asked += 1
        self.came.set()
        return [one.remote_id in self.own for one in reports]

    async def ask_others(self, reports: Sequence[Report]) -> list[bool]:
        return [one.remote_id in self.others for one in reports]


class Documents:
    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}
        self.visited: list[str] = []

    async def get(self, url: str) -> bytes:
        if url not in self.held:
            raise OSError(f"{url} gives no answer")
        return self.held[url]

    async def visit(self, url: str) -> None:
        self.visited.append(url)


class Scene:
    def __init__(self, provider: Provider | None = None, pauses: Sequence[float] = (0.01, 0.01, 60.0)) -> None:
        kind = ProviderSettings(kind="sendpost", api_key_file=Path("unused"))
        self.spools, self.observer, self.documents = Spools(), Observer(), Documents()
        door = Door(provider or build_provider("sp", kind), TOKEN)
        self.app = make_app("http", Heard())
        self.app.include_router(
            hooks_router(
                lambda: {"sp": door}, self.spools.ask_own, self.spools.ask_others, SystemClock(), self.observer,
                self.documents, pauses,
            )
        )  # fmt: skip


def delivered(name: str, age: float = 0.0) -> dict[str, Any]:
    at = int((time.time() - age) * 1e9)
    return {"event": {"eventId": name, "messageId": name, "type": 2, "to": "ann@example.net", "timestamp": at}}


@pytest.mark.parametrize("worker", ["own", "others"])
def test_a_callback_before_the_answer_is_on_disk_finds_its_message_in_either_worker(worker: str) -> None:
    """It is held until the id is known, and answered then."""

    async def main() -> None:
        scene = Scene()
        async with serving(scene.app) as served:
            asked = asyncio.create_task(served.ask(f"POST /hooks/sp/{TOKEN}", body=delivered("m-1")))
            await asyncio.wait_for(scene.spools.came.wait(), 60)
            getattr(scene.spools, worker).add("m-1")
            answer = await asyncio.wait_for(asked, 60)
        assert (answer.status, answer.json) == (200, {"events": 1, "known": 1})
        assert scene.observer.taken == [(1, 0)]

    asyncio.run(main())


def test_an_old_event_of_an_unknown_message_is_answered_at_once() -> None:
    """It is of another sender in the same account, or forgotten: asking again would not help."""

    async def main() -> None:
        scene = Scene(pauses=(60.0,))
        async with serving(scene.app) as served:
            answer = await asyncio.wait_for(served.ask(f"POST /hooks/sp/{TOKEN}", body=delivered("m-1", age=3600)), 60)
        assert (answer.status, answer.json) == (200, {"events": 1, "known": 0})
        assert scene.spools.asked == 1

    asyncio.run(main())


def test_an_unknown_message_is_given_up_after_the_last_pause() -> None:
    """And answered 200, for the vendor would only ask again in vain."""

    async def main() -> None:
        scene = Scene(pauses=(0.01, 0.01))
        async with serving(scene.app) as served:
            answer = await asyncio.wait_for(served.ask(f"POST /hooks/sp/{TOKEN}", body=delivered("m-1")), 60)
        assert (answer.status, answer.json) == (200, {"events": 1, "known": 0})
        assert scene.spools.asked == 3
        assert scene.observer.taken == [(0, 1)]

    asyncio.run(main())


def test_so_many_wait_at_a_time_and_no_more() -> None:
    """Whoever floods the address with unknown messages holds no more connections than that."""

    async def main() -> None:
        scene = Scene(pauses=(60.0,))
        async with serving(scene.app) as served:
            held = [
                asyncio.create_task(served.ask(f"POST /hooks/sp/{TOKEN}", body=delivered(f"m-{number}")))
                for number in range(MOST_WAITING)
            ]
            while scene.spools.asked < MOST_WAITING:
                await asyncio.sleep(0.01)
            answer = await asyncio.wait_for(served.ask(f"POST /hooks/sp/{TOKEN}", body=delivered("m")), 60)
            assert answer.json == {"events": 1, "known": 0}
            for task in held:
                task.cancel()
            await asyncio.gather(*held, return_exceptions=True)

    asyncio.run(main())


class Signed(Provider):
    """Wants a document, and to be confirmed."""

    kind = "signed"
    title = "Signed"

    def __init__(self) -> None:
        self.base_url = ""

    def render(self, request: Any, content: bytes) -> Any: ...

    def authorise(self, request: Any, api_key: str, now: float) -> Any: ...

    def read(self, response: Any, request: Any) -> Any: ...

    def document_for(self, callback: Callback) -> str:
        return "https://vendor.example/key"

    def confirmation(self, callback: Callback) -> str:
        return "https://vendor.example/confirm"

    def events(self, callback: Callback) -> list[ProviderEvent]:
        if callback.document != b"right":
            raise CallbackError("the signature is wrong", forged=True)
        return []


@pytest.mark.parametrize(
    ("document", "status", "visited"),
    [(b"right", 200, ["https://vendor.example/confirm"]), (b"wrong", 403, []), (None, 503, [])],
)
def test_a_signature_is_checked_before_anything_is_confirmed(
    document: bytes | None, status: int, visited: list[str]
) -> None:
    """What it is checked with comes from the vendor; while that cannot be had, the vendor has to ask again."""

    async def main() -> None:
        scene = Scene(Signed())
        if document is not None:
            scene.documents.held["https://vendor.example/key"] = document
        async with serving(scene.app) as served:
            answer = await served.ask(f"POST /hooks/sp/{TOKEN}", body={})
        assert answer.status == status
        assert scene.documents.visited == visited
        assert len(scene.observer.refused) == (status != 200)

    asyncio.run(main())
