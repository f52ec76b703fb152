"""What operators and their programs say: configuration files, the HTTP interface, filters of the verbs.

A configuration is right, or refused in one line that names file and key. A request is answered, and never by a 500.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import typer
from harness import Octets, Readers, in_loop
from pydantic import ValidationError
from values import bent, written
from vendors import KINDS, built

from relay.cli.config_text import shipped_config
from relay.cli.queue_act import filters
from relay.httpd.application import make_app
from relay.httpd.dead import Wanted as WantedLetters
from relay.httpd.dead import dead_router
from relay.httpd.hooks import hooks_router
from relay.httpd.queue import Wanted, queue_router
from relay.httpd.sandbox import sandbox_router
from relay.mail.errors import OperatorError, SettingsError
from relay.ports import SystemClock
from relay.settings import ProviderSettings, Settings, load_settings
from relay.settings.words import in_words
from relay.transports.build import Door
from relay.transports.providers import build_provider, provider_classes

# --- configuration -----------------------------------------------------------------------------------------

_SHIPPED = shipped_config()
_WHOLE: dict[str, Any] = Settings().model_dump(mode="json")
_EXTRA: dict[str, Any] = {
    "server": {"hostname": "mx.example.com"},
    "listener": [
        {"name": "mx", "port": 25, "role": "mx", "proxy_protocol": ["10.0.0.0/8"], "tolerate": ["bare_lf"]},
        {"name": "local", "address": "unix:/run/x.sock", "peer": [{"user": "0", "account": "a",
        "senders": ["@a.example"]}]},
    ],
    "device": [{"name": "scan", "network": ["192.168.1.9/32"], "account": "a", "senders": ["a@b.example"],
    "listeners": ["mx"]}],
    "route": [{"name": "r", "match": {"recipient_domain": ["a.example"]}, "via": ["direct", "smarthost:s",
    "provider:p"]}],
    "limit": [{"name": "l", "match": {"candidate": ["direct"]}, "rate": "10/second"}],
    "retry": {"slow": {"delays": [30, 60], "expire": 600}},
    "account": {"a": {"later_bounces": "notice"}},
    "issuer": {"i": {"issuer": "https://x.example", "audience": ["smtp"], "jwks_file": "/k", "algorithms": ["RS256"]}},
    "smarthost": {"s": {"host": "h.example", "port": 587, "username": "u", "password_file": "/p",
    "oauth": {"client_id": "c"}}},
    "provider": {"p": {"kind": "sendpost", "api_key_file": "/k", "options": {"accept": ["charset"]}}},
    "site": {"s": {"mx": ["*.a.example"]}},
    "inbound": {"domains": ["ours.example"], "spf": "mark"},
    "bounces": {"domain": "back.example"},
}  # fmt: skip


class _File:
    """A path, of what is in the input."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets

    def read_text(self, encoding: str) -> str:
        return self._octets.decode(encoding)

    def __str__(self) -> str:
        return "relay.toml"


def _one_line(error: Exception) -> None:
    assert str(error).startswith("relay.toml: "), str(error)[:300]
    assert str(error).isprintable(), str(error)[:300]


def _config(octets: bytes) -> None:
    """A file of any octets."""
    file: Any = _File(octets)
    try:
        load_settings(file)
    except SettingsError as error:
        _one_line(error)


def _bent_config(octets: bytes) -> None:
    """One that was right, with values of any type."""
    chosen = Octets(octets)
    document = bent(chosen, (_EXTRA, _EXTRA, _WHOLE))
    if not isinstance(document, dict):
        return  # a file is a table, whatever stands in it
    try:
        Settings.model_validate(document)
    except ValidationError as error:
        _one_line(SettingsError(f"relay.toml: {in_words(error, document, Settings)}"))


def _options(octets: bytes) -> None:
    """The options of a provider."""
    chosen = Octets(octets)
    kind = chosen.one(KINDS)
    example = {**provider_classes()[kind].example, "accept": ["charset"], "withhold_headers": ["x"]}
    options = bent(chosen, (example,))
    with contextlib.suppress(ValidationError):
        config = ProviderSettings(kind=kind, api_key_file=Path("unused"), options=options)
        try:
            build_provider("any", config)
        except SettingsError as error:
            assert str(error).startswith("provider.any"), str(error)


def _template(octets: bytes) -> None:
    """The templates of the generic provider."""
    chosen = Octets(octets)
    name = chosen.one(("template", "attachment", "address", "header", "url", "id", "error", "code"))
    options = {**provider_classes()["http"].example, name: chosen.rest().decode("utf-8", "replace")}
    config = ProviderSettings(kind="http", api_key_file=Path("unused"), options=options)
    try:
        build_provider("any", config)
    except SettingsError as error:
        assert str(error).startswith("provider.any.options"), str(error)
        assert str(error).isprintable(), str(error)


def _filters(octets: bytes) -> None:
    """What a verb is given on the command line is what the control socket takes, or refused in one line."""
    chosen = Octets(octets)
    words = [chosen.take(chosen.number(40)).decode("utf-8", "surrogateescape") for _ in range(3)]
    older = chosen.one(("", "2h", "90s", "3d", "999999999d", "0s", chosen.take(12).decode("utf-8", "replace")))
    try:
        found = filters(words[0], words[1], words[2], older, chosen.one((None, "held")), bool(chosen.number(2)))
    except typer.Exit:
        return
    with contextlib.suppress(ValidationError):
        Wanted.model_validate(found)
    with contextlib.suppress(ValidationError):
        WantedLetters.model_validate({key: value for key, value in found.items() if key != "state"})


# --- HTTP --------------------------------------------------------------------------------------------------


class _Observer:
    def http_request(self, *facts: object) -> None: ...

    def callback_refused(self, *facts: object, **more: object) -> None: ...

    def callback_taken(self, *facts: object) -> None: ...

    def failure(self, where: str, error: BaseException) -> None:
        assert isinstance(error, OperatorError), "a bug was reported"


class _Nothing:
    """An inbox, a spool and an engine with nothing in them."""

    def list(self, **chosen: object) -> Sequence[Any]:
        return ()

    def get(self, number: int) -> None: ...

    def raw(self, number: int) -> None: ...

    def clear(self) -> int:
        return 0

    async def act(self, act: Any) -> Sequence[Any]:
        return ()

    async def dead(self, *chosen: object) -> tuple[Sequence[Any], None]:
        return (), None

    def candidates(self) -> Sequence[str]:
        return ("direct",)

    def queues(self) -> Sequence[Any]:
        return ()

    def paused(self) -> dict[str, float]:
        return {}

    open_hops = silent = paused

    def resume(self, name: str) -> None: ...

    def forget(self, ids: object) -> None: ...

    async def end(self, *facts: object) -> bool:
        return False

    def event(self, event: object) -> None: ...

    async def get_document(self, url: str) -> bytes:
        raise OSError("no network here")


async def _known(reports: Sequence[Any]) -> list[bool]:
    for report in reports:
        json.dumps([report.remote_id, report.recipient, report.key, report.at, report.said]).encode("utf-8")
    return [True for _ in reports]


def _app() -> Any:
    nothing: Any = _Nothing()
    app = make_app("http", _Observer())
    doors = {kind: Door(built(kind), "word") for kind in KINDS}
    documents: Any = type("Documents", (), {"get": nothing.get_document, "visit": nothing.get_document})()
    app.include_router(hooks_router(lambda: doors, _known, _known, SystemClock(), _Observer(), documents, ()))
    app.include_router(sandbox_router(nothing, lambda key: None if key == "bad" else key))
    app.include_router(queue_router(nothing, nothing, nothing, lambda: None, nothing, SystemClock(), lambda: 0))
    app.include_router(dead_router(nothing, lambda: "mx", lambda: 1, SystemClock(), lambda: None, lambda *facts: None))
    return app


_APP = _app()
_BODIES: list[Any] = [
    {"ids": ["0123456789abcdef"], "account": "a", "older": 60, "dry_run": True, "after": ["0123456789abcdef", 1]},
    {"all": True, "via": "direct", "state": "held", "domain": "a.example", "sender": "<>"},
    {"ids": ["0123456789abcdef"], "to": ["a@b.example"], "after": "0123456789abcdef"},
    {"route": "direct"},
    {"event": {"eventId": "1", "messageId": "m", "type": 2, "to": "ann@example.net", "timestamp": 1}},
]
_PATHS = (
    "/sandbox/inbox", "/sandbox/inbox/1", "/sandbox/inbox/1/raw", "/sandbox/inbox/%zz", "/admin/queue/hold",
    "/admin/queue/reroute", "/admin/queue/expire", "/admin/route/resume", "/admin/route", "/admin/status",
    "/admin/dead/reinject", "/", "//", "/admin/queue/ü",
)  # fmt: skip
_QUERY = ("to", "limit", "after_id", "since", "wait", "x")
_VALUES = ("1", "-1", "0", "1e400", "nan", "inf", "9" * 30, "", "%ff", "%00", "a%40b", "+", "ü", "\ud800")


def _request(octets: bytes) -> None:
    """Any method, path, query and body: an answer in JSON, none of them ours to be ashamed of."""
    chosen = Octets(octets)
    hook = f"/hooks/{chosen.one(KINDS)}/{chosen.one(('word', 'word', 'other', 'ü'))}"
    path = chosen.one((*_PATHS, hook, hook, hook))
    query = "&".join(f"{chosen.one(_QUERY)}={chosen.one(_VALUES)}" for _ in range(chosen.number(4)))
    headers = [(b"host", chosen.one((b"localhost", b"[::1]:80", b"x.example", b"\xff", b"")))]
    if chosen.number(2):
        headers.append((b"content-type", chosen.one((b"application/json", b"text/plain", b"a;b=\xff", b""))))
    if not chosen.number(4):
        headers.append(
            (chosen.one((b"authorization", b"x-api-key", b"origin", b"sec-fetch-site", b"expect")), chosen.take(12))
        )
    method = chosen.one(("POST", "POST", "GET", "DELETE", "HEAD", "PUT", "OPTIONS"))
    body = written(bent(chosen, _BODIES), chosen) if chosen.number(4) else chosen.rest()
    status, answer = in_loop(_asked(method, path, query, headers, body))
    assert status < 500 or status == 503, (status, answer)
    if answer and status >= 400 and method != "HEAD":
        assert json.loads(answer)["error"]["message"]


async def _asked(
    method: str, path: str, query: str, headers: list[tuple[bytes, bytes]], body: bytes
) -> tuple[int, bytes]:
    raw = path.encode("utf-8")
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": path,
        "raw_path": raw, "query_string": query.encode("utf-8", "replace"), "root_path": "", "headers": headers,
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
    }  # fmt: skip
    status, answer = 0, b""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        nonlocal status, answer
        status = message.get("status", status)
        answer += message.get("body", b"")

    await _APP(scope, receive, send)
    return status, answer


def target() -> Readers:
    found = Readers((_config, _bent_config, _bent_config, _options, _template, _filters, _request, _request))
    found.more = list(_seeds(found))
    return found


def _seeds(found: Readers) -> Iterator[bytes]:
    shipped = _SHIPPED.encode()
    for start in range(0, len(shipped), 1500):
        yield found.seed(_config, re.sub(rb"(?m)^# ([a-z_]+ = )", rb"\1", shipped[start : start + 1500]))
    yield found.seed(_config, b'[server]\nhostname = "x"\n[[listener]]\nname = "a"\nport = 25\n')
    yield found.seed(_config, b"a = " + b"[" * 200)
    yield found.seed(_config, b"a = " + b"1" * 5000)
    yield from (
        found.seed(_bent_config, bytes((which, 2, 3, value, 3, value))) for which in (0, 2) for value in range(20)
    )
    yield from (found.seed(_options, bytes((kind, 1, value, 3))) for kind in range(len(KINDS)) for value in range(4))
    http = provider_classes()["http"].example
    yield found.seed(_template, b"\0" + str(http["template"]).encode())
    yield found.seed(_template, b"\1" + str(http["attachment"]).encode())
    yield found.seed(_template, b'\2{"a": "{email} {{x}} {name!}"}')
    yield found.seed(_filters, b"\4acme\x09a.example\2<>\1")
    for number in range(len(_PATHS) + 3):
        yield found.seed(_request, bytes((0, 0, number, 1, 1, 0, 0, 1, 0, 1, number % 7, 1, number % 5, 0)))
