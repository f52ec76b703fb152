"""The registry of providers, and the small tools adapters share."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.mail.errors import SettingsError
from relay.mail.mime import Mailbox
from relay.mail.parts import Attachment, take_apart
from relay.settings import ProviderSettings
from relay.transports.http_exchange import parse_reset
from relay.transports.providers import build_provider, provider_classes
from relay.transports.providers.base import Provider
from relay.transports.providers.filenames import name_for, type_of
from relay.transports.providers.raw import without_fields
from relay.transports.providers.visibility import visibility


def settings(kind: str = "sendpost", **more: object) -> ProviderSettings:
    return ProviderSettings(kind=kind, api_key_file=Path("unused"), **more)


@pytest.mark.parametrize("kind", sorted(provider_classes()))
def test_every_kind_is_whole(kind: str):
    """Built from its defaults, under its own word, over HTTPS."""
    provider = build_provider("any", settings(kind, options=dict(provider_classes()[kind].example)))

    assert isinstance(provider, Provider)
    assert provider.kind == kind
    assert provider.base_url.startswith("https://")
    assert not provider.base_url.endswith("/")
    assert provider.capabilities.recipients_per_call >= 1


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("60", 60), ("1800000060", 60), ("1799999990", 30), ("9" * 20, 14_400), ("9" * 400, 14_400), ("soon", None)],
)
def test_when_a_vendor_wants_to_be_asked_again_is_seconds_or_a_time(value: str, seconds: float | None):
    """However long the number is."""
    assert parse_reset(value, 1_800_000_000.0) == seconds


def test_base_url_replaces_the_vendors_own():
    """A slash at the end makes no difference."""
    assert build_provider("sp", settings(base_url="https://eu.example/v1/")).base_url == "https://eu.example/v1"


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("sendpots", {}, "provider.sp.kind: no provider 'sendpots'; did you mean 'sendpost'"),
        ("zzz", {}, "provider.sp.kind: no provider 'zzz'; known: "),
        ("sendpost", {"track": True}, "provider.sp.options.track: unknown setting; did you mean 'track_"),
        ("sendpost", {"track_opens": "perhaps"}, "provider.sp.options.track_opens: "),
        ("sendpost", {"accept": ["everything"]}, "provider.sp.options.accept: write 'alternative'"),
    ],
)
def test_mistakes_name_the_key_and_the_fix(kind, options, words):
    """One line, before anything is sent."""
    with pytest.raises(SettingsError, match=words):
        build_provider("sp", settings(kind, options=options))


@pytest.mark.parametrize(
    ("content_type", "name"),
    [("image/png", "part-3.png"), ("text/calendar", "part-3.ics"), ("application/gzip", "part-3.gz"),
     ("application/x-unheard-of", "part-3.bin"), ("message/rfc822", "part-3.eml")],
)  # fmt: skip
def test_unnamed_file_gets_a_name_that_leads_back_to_its_type(content_type: str, name: str):
    """Where the table knows the type; otherwise the name promises nothing."""
    assert name_for(Attachment("", b"", content_type), 3) == name
    assert type_of(name) == content_type or name.endswith(".bin")


@pytest.mark.parametrize(
    ("name", "content_type"),
    [("a.PDF", "application/pdf"), ("a.tar.gz", "application/gzip"), ("a", None), ("", None), (".png", "image/png"),
     ("//[x.pdf", "application/pdf"), ("data:text/html,x", None), ("a.unheard-of", None)],
)  # fmt: skip
def test_type_is_guessed_from_the_last_dot(name: str, content_type: str | None):
    """A hostile name is a name, not a URL."""
    assert type_of(name) == content_type


def test_visibility_sorts_every_recipient_once():
    """Names come from the header, addresses from the envelope; who stands in To and Cc is shown in To."""
    shown = b"To: Ann <ANN@y.example>, gone@y.example\r\nCc: ann@y.example, Bob <bob@y.example>\r\n"
    content = b"From: a@x.example\r\n" + shown + b"\r\n"
    seen = visibility(["bob@y.example", "ann@y.example", "dot@y.example"], take_apart(content))

    assert seen.to == (Mailbox("ann@y.example", "Ann"),)
    assert seen.cc == (Mailbox("bob@y.example", "Bob"),)
    assert seen.hidden == ("dot@y.example",)
    assert seen.unreached


@pytest.mark.parametrize("line", [b"Delivered-Bcc: a@x.example\r\n", b"no field Bcc: a@x.example\r\n"])
def test_a_blind_copy_is_taken_out_where_it_stands_and_not_where_its_octets_stand(line: bytes):
    """What ends in the same octets, and a line that is no field, keep theirs."""
    head = b"Subject: x\r\n" + line

    content = head + b"Bcc: a@x.example\r\n\r\nBcc: a@x.example\r\n"

    assert without_fields(content, ()) == head + b"\r\nBcc: a@x.example\r\n"
