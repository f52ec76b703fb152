"""Every reader of what strangers send: any octets give values or the reader's own error, in time.

The first octet chooses the reader.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

from relay.mail.address import parse_address
from relay.mail.dialects import read_directives, without_directives
from relay.mail.errors import AddressSyntaxError, DirectiveError, MessageSyntaxError
from relay.mail.line_ends import fixed_line_ends, has_bare_line_ends
from relay.mail.message import addresses_in, header_block, header_fields, split_message
from relay.mail.parts import take_apart
from relay.mail.returned import read_report
from relay.settings import ProviderSettings
from relay.smtpd.commands import CommandError, parse_mail, parse_rcpt
from relay.smtpd.proxy_header import ProxyHeaderError, read_header
from relay.transports.providers import build_provider, provider_classes
from relay.transports.providers.base import Callback, CallbackError, HttpRequest, HttpResponse

_SLOWEST = 1.0
_PROVIDERS = [
    build_provider("any", ProviderSettings(kind=kind, api_key_file=Path("unused"), options=dict(one.example)))
    for kind, one in sorted(provider_classes().items())
]
_CALL = HttpRequest("POST", "https://x.example/", {}, b'{"Messages":[{"To":[{}]}]}', (("a@b.example",),))


def _message(octets: bytes) -> None:
    content = fixed_line_ends(octets)
    assert not has_bare_line_ends(content)
    header, body = split_message(content)
    assert header == header_block(content)
    assert len(header) + len(body) <= len(content) + 2
    fields = list(header_fields(header))
    for each in fields:
        addresses_in(each.text)
    with contextlib.suppress(MessageSyntaxError):
        take_apart(content)
    read_report(content)
    with contextlib.suppress(DirectiveError):
        read_directives(fields)
    assert len(without_directives(content)) <= len(content)


def _address(octets: bytes) -> None:
    text = octets.decode("utf-8", "replace")
    with contextlib.suppress(AddressSyntaxError):
        address = parse_address(text)
        assert parse_address(str(address)) == address


def _commands(octets: bytes) -> None:
    with contextlib.suppress(CommandError):
        parse_mail(octets)
    with contextlib.suppress(CommandError):
        parse_rcpt(octets, smtputf8=bool(octets[:1] > b"m"))


def _proxy(octets: bytes) -> None:
    with contextlib.suppress(ProxyHeaderError):
        read_header(octets)


def _callback(octets: bytes) -> None:
    provider = _PROVIDERS[octets[0] % len(_PROVIDERS)] if octets else _PROVIDERS[0]
    with contextlib.suppress(CallbackError):
        provider.events(Callback({}, octets[1:], "", 1.8e9))


def _answer(octets: bytes) -> None:
    provider = _PROVIDERS[octets[0] % len(_PROVIDERS)] if octets else _PROVIDERS[0]
    status = 200 if octets[1:2] < b"\x80" else 400
    assert set(provider.read(HttpResponse(status, {}, octets[2:]), _CALL)) == {"a@b.example"}


READERS: tuple[Callable[[bytes], None], ...] = (_message, _message, _address, _commands, _proxy, _callback, _answer)


def parse(octets: bytes) -> None:
    """One input."""
    started = time.monotonic()
    if octets:
        READERS[octets[0] % len(READERS)](octets[1:])
    assert time.monotonic() - started < _SLOWEST, "a hang"
