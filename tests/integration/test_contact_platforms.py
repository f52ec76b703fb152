"""Each platform over HTTP against a stub that works as its documentation says, and one that does not."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from platform_stub import KEYS, Platform, platform
from test_http_transport import Names

from relay.mail.errors import SettingsError
from relay.mail.outcome import Deferred, Failed, Fault, Outcome, Sent
from relay.ports import Contact, SystemClock
from relay.settings import ContactsSettings
from relay.transports import http_calls
from relay.transports.contacts import DIRECTORIES, build_contacts, build_directory
from relay.transports.contacts.base import Directory
from relay.transports.contacts.client import HttpContacts
from relay.transports.providers.base import HttpRequest

KINDS = sorted(DIRECTORIES)
OPTIONS: dict[str, dict[str, Any]] = {
    "sendx": {"tags": ["customer"]},
    "sendlio": {"unsubscribe": "property"},
    "sendios": {"client_id": 7, "project_id": 42},
}
AT = 1_795_600_000.0
STAMP = "2026-11-25T09:46:40Z"


@pytest.fixture
def there() -> Iterator[Platform]:
    with platform() as found:
        yield found


def settings(kind: str, folder: Path, url: str = "", **changes: Any) -> ContactsSettings:
    key = folder / f"{kind}.key"
    key.write_text(KEYS[kind] + "\n")
    values = {"kind": kind, "api_key_file": key, "base_url": url, "options": OPTIONS[kind]}
    return ContactsSettings(**{**values, "allow_private": True, "timeout": 5.0, **changes})


def contact(address: str = "Ann@d.example", *kinds: str, erase: bool = False) -> Contact:
    return Contact("crm", address, dict.fromkeys(kinds, AT), erase)


def tell(kind: str, folder: Path, url: str, *contacts: Contact, **changes: Any) -> list[Outcome]:
    async def main() -> list[Outcome]:
        [directory] = build_contacts({"crm": settings(kind, folder, url, **changes)}, SystemClock(), Names()).values()
        assert isinstance(directory, HttpContacts)
        try:
            return [await directory.tell(one) for one in contacts]
        finally:
            await directory.close()

    return asyncio.run(main())


def fields(there: Platform, address: str = "Ann@d.example") -> dict[str, str]:
    found: dict[str, str] = there.people[address]["fields"]
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_somebody_new_is_made_and_somebody_known_is_changed(tmp_path: Path, there: Platform, kind: str) -> None:
    new, known = contact("Ann@d.example", "sent"), contact("Ann@d.example", "delivered")
    found = tell(kind, tmp_path, there.url(kind), new, known, known)

    assert all(isinstance(one, Sent) for one in found), found
    assert list(there.people) == ["Ann@d.example"]
    assert fields(there) == {"relay_sent_at": STAMP, "relay_delivered_at": STAMP}


@pytest.mark.parametrize("kind", ["sendx", "sendios"])
@pytest.mark.parametrize("event", ["unsubscribed", "complained"])
def test_who_unsubscribes_or_complains_is_unsubscribed(tmp_path: Path, there: Platform, kind: str, event: str) -> None:
    [found] = tell(kind, tmp_path, there.url(kind), contact("a+b@d.example", "sent", event))

    assert isinstance(found, Sent)
    assert there.people["a+b@d.example"]["unsubscribed"]
    assert fields(there, "a+b@d.example")[f"relay_{event}_at"] == STAMP


@pytest.mark.parametrize("kind", ["sendx", "sendios"])
def test_a_bounce_unsubscribes_nobody(tmp_path: Path, there: Platform, kind: str) -> None:
    tell(kind, tmp_path, there.url(kind), contact("Ann@d.example", "bounced"))

    assert "unsubscribed" not in there.people["Ann@d.example"]


def test_sendx_tags_what_ended_badly(tmp_path: Path, there: Platform) -> None:
    tell("sendx", tmp_path, there.url("sendx"), contact("Ann@d.example", "bounced", "delivered"))

    assert there.people["Ann@d.example"]["tags"] == ["customer", "relay_bounced"]


@pytest.mark.parametrize("kind", KINDS)
def test_who_is_erased_is_gone_and_a_repetition_does_no_harm(tmp_path: Path, there: Platform, kind: str) -> None:
    gone = contact("Ann@d.example", erase=True)
    made = contact("Ann@d.example", "sent"), contact("bob@d.example", "sent")
    found = tell(kind, tmp_path, there.url(kind), *made, gone, gone)

    assert all(isinstance(one, Sent) for one in found), found
    assert list(there.people) == ["bob@d.example"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_happened_after_an_erasure_is_told_after_it(tmp_path: Path, there: Platform, kind: str) -> None:
    before, after = contact("Ann@d.example", "sent"), contact("Ann@d.example", "delivered", erase=True)
    found = tell(kind, tmp_path, there.url(kind), before, after)

    assert all(isinstance(one, Sent) for one in found), found
    assert fields(there) == {"relay_delivered_at": STAMP}


def test_a_key_that_travels_as_its_hash_is_quoted_as_neither(
    tmp_path: Path, there: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "sdk-key-0123456789"
    travels = hashlib.sha1(key.encode(), usedforsecurity=False).hexdigest()
    given = settings("sendios", tmp_path, there.url("sendios"), options={**OPTIONS["sendios"], "key_is_sdk": True})
    given.api_key_file.write_text(key)
    monkeypatch.setitem(KEYS, "sendios", travels)
    there.unwell = (422, {"data": {"error": f"{key} {travels} is wrong"}})

    async def main() -> Outcome:
        [directory] = build_contacts({"crm": given}, SystemClock(), Names()).values()
        try:
            return await directory.tell(contact("Ann@d.example", "sent"))
        finally:
            await directory.close()

    found = asyncio.run(main())
    assert isinstance(found, Failed)
    assert found.reply.text.endswith("[api key] [api key] is wrong")


def test_calls_without_end_are_put_off_whatever_the_last_one_said(
    tmp_path: Path, there: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_calls, "MOST_STEPS", 2)
    there.people = {"ann@d.example": {"unique_id": "u1"}, "ANN@d.example": {"unique_id": "u2"}}
    [found] = tell("sendlio", tmp_path, there.url("sendlio"), contact("ann@d.example", erase=True))

    assert isinstance(found, Deferred)
    assert found.reply.text == "Sendlio: no end after 2 calls; the next call repeats this one"


def test_a_bug_in_what_is_to_be_told_puts_that_contact_off_and_says_so(
    tmp_path: Path, there: Platform, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(self: Directory, contact: Contact) -> HttpRequest:
        raise ValueError("year 60000 is out of range")

    monkeypatch.setattr(DIRECTORIES["sendx"], "first", broken)
    [found] = tell("sendx", tmp_path, there.url("sendx"), contact("Ann@d.example", "sent"))

    assert isinstance(found, Deferred)
    assert found.fault is Fault.MESSAGE
    assert "contacts crm" in caplog.text
    assert there.calls == []


def test_all_members_of_an_address_are_erased_at_sendlio(tmp_path: Path, there: Platform) -> None:
    there.people = {"ann@d.example": {"unique_id": "u1"}, "ANN@d.example": {"unique_id": "u2"}}
    answer = there.answer

    def any_case(method: str, target: str, body: Any) -> Any:
        if method == "GET":
            data = [{"email": each, **one} for each, one in there.people.items()]
            return 200, {"data": [*data, {"email": "else@d.example", "unique_id": "u9"}]}
        return answer(method, target, body)

    there.answer = any_case  # type: ignore[method-assign]
    [found] = tell("sendlio", tmp_path, there.url("sendlio"), contact("ann@d.example", erase=True))

    assert isinstance(found, Sent)
    assert there.people == {}


def test_a_deletion_that_deletes_nothing_is_not_called_done(tmp_path: Path, there: Platform) -> None:
    there.people = {"ann@d.example": {"unique_id": "u1"}}

    def stubborn(method: str, target: str, body: Any) -> Any:
        data = [{"email": "ann@d.example", "unique_id": "u1"}]
        return 200, {"data": data} if method == "GET" else {"status": "success"}

    there.answer = stubborn  # type: ignore[method-assign]
    [found] = tell("sendlio", tmp_path, there.url("sendlio"), contact("ann@d.example", erase=True))

    assert isinstance(found, Deferred)


def test_sendios_makes_nobody_where_it_is_not_wanted(tmp_path: Path, there: Platform) -> None:
    options = {**OPTIONS["sendios"], "create": False}
    [found] = tell("sendios", tmp_path, there.url("sendios"), contact("Ann@d.example", "sent"), options=options)

    assert isinstance(found, Sent)
    assert there.people == {}


@pytest.mark.parametrize("kind", KINDS)
def test_addresses_leave_as_a_labels_and_quoted_in_the_path(tmp_path: Path, there: Platform, kind: str) -> None:
    odd = contact("a/b%?@bücher.example", "unsubscribed")
    [found] = tell(kind, tmp_path, there.url(kind), odd)

    assert isinstance(found, Sent), found
    assert list(there.people) == ["a/b%?@xn--bcher-kva.example"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("erase", [False, True])
@pytest.mark.parametrize(
    ("status", "fault"),
    [(401, Fault.ROUTE), (403, Fault.ROUTE), (429, Fault.HOST), (500, Fault.MESSAGE), (502, Fault.HOST),
     (503, Fault.HOST), (504, Fault.HOST), (404, Fault.ROUTE), (302, Fault.ROUTE)],
)  # fmt: skip
def test_a_platform_that_is_unwell_is_asked_again(
    tmp_path: Path, there: Platform, kind: str, erase: bool, status: int, fault: Fault
) -> None:
    """A 404 that is not the API's own word is a wrong base_url, and erases nobody."""
    there.unwell = (status, {"html": "sorry"})
    events = () if erase else ("sent",)
    [found] = tell(kind, tmp_path, there.url(kind), contact("Ann@d.example", *events, erase=erase))

    assert isinstance(found, Deferred), found
    assert found.fault is fault


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("erase", [False, True])
@pytest.mark.parametrize("answer", ["<html>login</html>", None, [], {}, 7, {"data": 7}, {"id": 7}, {"data": [7]}])
def test_an_answer_of_somebody_between_is_nothing_done(
    tmp_path: Path, there: Platform, kind: str, erase: bool, answer: Any
) -> None:
    there.unwell = (200, answer)
    events = () if erase else ("unsubscribed",)
    [found] = tell(kind, tmp_path, there.url(kind), contact("Ann@d.example", *events, erase=erase))

    said = kind == "sendios" and isinstance(answer, dict) and "data" in answer
    assert isinstance(found, Sent if said else Deferred), found


@pytest.mark.parametrize("kind", KINDS)
def test_a_refusal_is_final_and_in_the_platforms_words(tmp_path: Path, there: Platform, kind: str) -> None:
    there.unwell = (
        422,
        {"message": "bad address", "status": "error", "error": "bad address", "data": {"error": "bad address"}},
    )
    [found] = tell(kind, tmp_path, there.url(kind), contact("Ann@d.example", "sent"))

    assert isinstance(found, Failed)
    assert "bad address" in found.reply.text


@pytest.mark.parametrize("kind", KINDS)
def test_a_platform_that_is_down_leaves_no_doubt(tmp_path: Path, there: Platform, kind: str) -> None:
    there.down()
    [found] = tell(kind, tmp_path, there.url(kind), contact("Ann@d.example", "sent"))

    assert isinstance(found, Deferred)
    assert found.fault is Fault.HOST


@pytest.mark.parametrize("kind", KINDS)
def test_the_key_stands_in_no_log_and_no_answer(
    tmp_path: Path, there: Platform, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    key = KEYS[kind]
    there.unwell = (400, {"message": f"bad key {key}", "error": f"bad key {key}", "data": {"error": f"bad key {key}"}})
    with caplog.at_level(logging.DEBUG):
        [found] = tell(kind, tmp_path, there.url(kind), contact("Ann@d.example", "sent"))

    assert key not in caplog.text
    assert isinstance(found, Failed)
    assert all(word not in found.reply.text for word in key.split(":"))


# --- settings --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        (
            "sendlio",
            {},
            r"contacts.crm.events: Sendlio's API unsubscribes nobody: leave unsubscribed and complained out",
        ),
        ("sendios", {"client_id": 7}, "contacts.crm.options: set project_id too"),
        ("sendx", {"tag": ["x"]}, "contacts.crm.options.tag: .*known: prefix, tags, event_tags"),
        ("sendx", {"prefix": "Relay-"}, "contacts.crm.options.prefix"),
    ],
)
def test_options_that_cannot_work_name_the_fix(tmp_path: Path, kind: str, options: Any, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        build_directory("crm", settings(kind, tmp_path, options=options))


def test_sendlio_needs_no_word_where_it_hears_of_no_unsubscription(tmp_path: Path) -> None:
    build_directory("crm", settings("sendlio", tmp_path, options={}, events=("sent", "bounced")))


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_file_that_cannot_be_used_is_named(tmp_path: Path, kind: str) -> None:
    missing = settings(kind, tmp_path).model_copy(update={"api_key_file": tmp_path / "none"})
    with pytest.raises(SettingsError, match=r"contacts.crm.api_key_file: cannot read"):
        build_contacts({"crm": missing}, SystemClock(), Names())


@pytest.mark.parametrize("kind", KINDS)
def test_a_private_address_has_to_be_meant(tmp_path: Path, kind: str) -> None:
    """By the settings, and by the guard however a name resolves."""
    with pytest.raises(SettingsError, match=r"contacts.crm.base_url: .* allow_private = true"):
        tell(kind, tmp_path, "https://127.0.0.1/api", contact(), allow_private=False)
    [found] = tell(kind, tmp_path, "https://internal.example/api", contact("a@d.example", "sent"), allow_private=False)
    assert isinstance(found, Deferred)
    assert found.fault in (Fault.ROUTE, Fault.HOST)


def test_the_page_names_every_option() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/howto/contacts.md").read_text(encoding="utf-8")
    for kind, directory in DIRECTORIES.items():
        assert f"`{kind}`" in page
        for name in directory.Options.model_fields:
            assert f"`{name}`" in page, name
    assert json.dumps(sorted(DIRECTORIES)) == '["sendios", "sendlio", "sendx"]'
