"""Kind http: what an operator may write, and which line he is told where it makes no sense."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sendpost_setting import EVERYTHING, request
from test_sendpost_recipients import deliveries, plain

from relay.mail.errors import SettingsError
from relay.settings import ProviderSettings
from relay.transports.providers import build_provider
from relay.transports.providers.base import HttpRequest, Provider, Refusal, Rendering
from relay.transports.providers.generic import Http

EXAMPLE = dict(Http.example)
FORM = {"to": "{to.emails}", "from": "{from.email}", "s": "{subject}", "t": "{text}", "h": "{headers}"}


def built(**options: Any) -> Provider:
    config = ProviderSettings(kind="http", api_key_file=Path("unused"), options={**EXAMPLE, **options})
    return build_provider("any", config)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"url": "ftp://x.example"}, r"options\.url: write it as https://host/path"),
        ({"url": "https://x.example/?a=1"}, r"options\.url: write it without query"),
        ({"template": ""}, r"options\.template: missing; body = \"json\" needs it"),
        ({"template": "{"}, r"options\.template: no JSON: .* in line 1, column 2"),
        ({"template": '{"a": NaN}'}, r"options\.template: NaN is no JSON"),
        ({"template": '{"a": 1, "a": 2}'}, r"options\.template: the key 'a' stands twice"),
        ({"template": "[" * 100_000}, r"options\.template: longer than"),
        ({"template": "[" * 60_000}, r"options\.template: no JSON"),
        ({"template": '"{to}"'}, r"options\.template: the top has to be an object or a list"),
        ({"template": '{"a": {"b": "{subjct}"}}'}, r"options\.template: at /a/b: no placeholder '{subjct}'; did you "),
        ({"template": '{"a": ["x", "{zzzz}"]}'}, r"options\.template: at /a/1: no placeholder '{zzzz}'; known here: "),
        ({"template": '{"a": "{subject"}'}, r"options\.template: at /a: a { alone in '{subject'; write {{"),
        ({"template": '{"a": "to {to}"}'}, r"options\.template: at /a: {to} has to stand alone in its string"),
        ({"template": '{"a": "to {tag!}"}'}, r"options\.template: at /a: {tag!} has to stand alone"),
        ({"template": '{"a": "{tag!}"}'}, r"options\.template: a ! at the top"),
        ({"template": '{"a": {"b": "{tag!}", "c": "{to}"}}'}, r"options\.template: {to} would go wherever {tag!} is"),
        ({"template": '{"a": {"b": ["{tag!}"], "c": [{"d": "{to}"}]}}'}, r"options\.template: {to} would go wherever"),
        ({"template": '{"a": "{raw.file}"}'}, r"options\.template: at /a: no placeholder '{raw.file}'"),
        ({"fields": {"a": "b"}}, r'options\.fields: means nothing with body = "json"'),
        ({"body": "form", "template": ""}, r"options\.fields: missing"),
        (
            {"body": "form", "template": "", "fields": {**FORM, "f": "{attachments.files}"}},
            r'options\.fields\.f: .*; files need body = "multipart"',
        ),
        ({"body": "form", "template": "", "fields": {**FORM, "f": "{fromm}"}}, r"fields\.f: no placeholder '{fromm}'"),
        ({"headers": {"X-Mode": "live"}}, r"options\.headers: nothing carries the key"),
        ({"headers": {"Authorization": "Bearer abc"}}, r"options\.headers\.Authorization: a secret does not stand"),
        ({"headers": {"x-api-key": "abc"}}, r"options\.headers\.x-api-key: a secret does not stand here"),
        ({"headers": {"X": "{kex}{key"}}, r"options\.headers\.X: .*"),
        ({"headers": {"X": "{key.usr}"}}, r"options\.headers\.X: no placeholder '{key.usr}'; did you mean {key.user}"),
        ({"headers": {"X": "{key} {subject}"}}, r"options\.headers\.X: no placeholder '{subject}'"),
        ({"headers": {"X": "{key}", "Host": "x"}}, r"options\.headers\.Host: no header field an operator sets"),
        ({"headers": {"X": "{key}", "a b": "x"}}, r"options\.headers\.a b: no header field"),
        ({"headers": {"X": "{key}", "Y": "a\r\nb"}}, r"options\.headers\.Y: write printable ASCII on one line"),
        ({"headers": {"X": "{key}", "x": "{key}"}}, r"options\.headers: one name stands there in two spellings"),
        ({"headers": {"X": "{key}", "Y": "{tag!}"}}, r"options\.headers\.Y: a ! means nothing here"),
        ({"query": {"a": "{headers}"}}, r"options\.query\.a: no placeholder '{headers}'"),
        ({"address": '{"name": "{name}"}'}, r"options\.address: says nothing; use {email} or {mailbox}"),
        ({"address": '{"e": "{email}", "n": "{name!}"}'}, r"options\.address: a ! would leave it out of the call"),
        ({"attachment": '{"f": "{filename}"}'}, r"options\.attachment: says nothing; use {content}"),
        ({"header": '{"f": "{nam}"}'}, r"options\.header: at /f: no placeholder '{nam}'; did you mean {name}"),
        ({"template": '{"a": "{subject}"}'}, r"options\.template: nobody's address is said; use {to}"),
        ({"template": '{"a": "{to}", "b": "{recipient}"}'}, r"options\.template: recipients stand there twice"),
        ({"template": '{"a": "{recipients}", "to": "{to}"}'}, r"{recipients\.\.\.} is for the whole message alone"),
        ({"template": '{"a": "{to}"}'}, r"options\.template: no author is said"),
        ({"template": '{"a": "{to}", "f": "{from}"}'}, r"options\.template: no subject is said"),
        ({"template": '{"a": "{to}", "f": "{from}", "s": "{subject}"}'}, r"options\.template: nothing of the message"),
        (
            {"template": '{"a": "{to}", "f": "{from}", "s": "{subject}", "t": "{text}"}'},
            r"options\.template: every message has header fields .*; use {headers}, or put \"custom-header\" into",
        ),
        ({"template": '{"m": "{raw}"}'}, r"options\.template: nobody's address is said; use {recipients.emails}"),
        ({"template": '{"m": "{raw}", "r": "{recipients}", "s": "{subject}"}'}, r"{subject} is not known beside the"),
        ({"body": "raw", "template": ""}, r"options\.headers: nobody's address is said"),
        (
            {"template": '{"m": "{raw}", "r": "{recipient}"}', "recipients_per_call": 2},
            r"options\.recipients_per_call: has to be 1 with {recipient",
        ),
        ({"idempotent": True}, r"options\.idempotent: needs {idempotency_key} in the call"),
        ({"codes": {"a": "accepted"}}, r"options\.codes: nothing says where a code stands; set code too"),
        ({"id": "message.id"}, r"options\.id: a JSON pointer begins with /; did you mean /message/id\?"),
        ({"id": "/a~b"}, r"options\.id: a ~ in a JSON pointer is written ~0"),
        ({"statuses": {"42": "accepted"}}, r"options\.statuses.*: write a status as 422"),
        ({"statuses": {"422": "gone"}}, r"options\.statuses\.422: write 'accepted'"),
        ({"body": "multipart", "template": "", "fields": FORM, "headers": {"X": "{key}", "Content-Type": "a/b"}},
         r'options\.headers\.Content-Type: body = "multipart" sets it'),
    ],
)  # fmt: skip
def test_a_description_that_makes_no_sense_is_told_with_key_and_fix(options: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words) as found:
        built(**options)
    assert "\n" not in str(found.value)
    assert str(found.value).startswith("provider.any.options.")


def test_the_key_goes_where_the_operator_writes_it_and_nowhere_else() -> None:
    provider = built(
        headers={"A": "Bearer {key}", "B": "{key.user}", "C": "x-{key.password}", "D": "Basic {key.basic}"}
    )
    call = HttpRequest("POST", "https://x.example/", {}, b"", ())
    assert dict(provider.authorise(call, "me:s3cret", 0.0)) == {
        "A": "Bearer me:s3cret",
        "B": "me",
        "C": "x-s3cret",
        "D": "Basic bWU6czNjcmV0",
    }


def test_a_recipient_with_a_comma_is_refused_where_a_list_is_written_as_text() -> None:
    content = b"From: a@example.org\r\nDate: x\r\n\r\nhi\r\n"
    raw = {"body": "raw", "template": "", "headers": {"X": "{key}", "To": "{recipients.emails}"}}
    assert isinstance(built(**raw).render(request('"a,b"@example.net'), content), Refusal)
    assert isinstance(built(**raw).render(request("ab@example.net"), content), Rendering)
    assert isinstance(built().render(request('"a,b"@example.net'), content), Rendering)


def test_a_header_of_the_call_is_ascii_or_the_message_is_refused() -> None:
    content = "From: a@example.org\r\nSubject: Grüße\r\n\r\nhi\r\n".encode()
    told = built(headers={"X": "{key}", "X-Subject": "{subject}"}).render(request("ab@example.net"), content)
    assert isinstance(told, Refusal)


@pytest.mark.parametrize(
    ("text", "html", "template", "found"),
    [
        (True, True, '"t": "{text}"', "550 5.6.3 HTTP API cannot carry this message without loss: one-body"),
        (False, True, '"t": "{text}"', "550 5.6.1 HTTP API takes no message that is html alone"),
        (True, False, '"t": "{html}"', "550 5.6.1 HTTP API takes no message that is text alone"),
        (True, True, '"t": "{text}", "h": "{html}"', ""),
    ],
)
def test_a_body_without_a_place_is_not_dropped(text: bool, html: bool, template: str, found: str) -> None:
    parts = [b"Content-Type: text/plain\r\n\r\nt"] * text + [b"Content-Type: text/html\r\n\r\nh"] * html
    body = b"".join(b"--b\r\n" + part + b"\r\n" for part in parts)
    head = b"From: a@example.org\r\nContent-Type: multipart/alternative; boundary=b\r\n\r\n"
    whole = f'{{"to": "{{to}}", "f": "{{from}}", "s": "{{subject}}", "h2": "{{headers}}", {template}}}'
    told = built(template=whole).render(request("ab@example.net"), head + body + b"--b--\r\n")
    assert (str(told.reply) if isinstance(told, Refusal) else "") == found


TEMPLATE = '{{{}, "f": "{{from.email}}", "s": "{{subject}}", "t": "{{text}}", "h": "{{html}}"}}'
WAYS = {
    "to, cc, bcc": TEMPLATE.format('"to": "{to.emails}", "cc": "{cc.emails}", "bcc": "{bcc.emails}"'),
    "to, bcc": TEMPLATE.format('"to": "{to.emails}", "bcc": "{bcc.emails}"'),
    "to, cc": TEMPLATE.format('"to": "{to.emails}", "cc": "{cc.emails}"'),
    "to": TEMPLATE.format('"to": "{to.emails}"'),
    "one": TEMPLATE.format('"to": ["{recipient.email}"]'),
}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(delivery=deliveries(), way=st.sampled_from(sorted(WAYS)), most=st.integers(1, 60))
def test_however_recipients_are_written_everybody_is_reached_once_and_the_hidden_are_not_seen(delivery, way, most):
    content, envelope, shown = delivery
    count = 1 if way == "one" else most
    provider = built(template=WAYS[way], recipients_per_call=count, accept=EVERYTHING)
    found = provider.render(request(*envelope), content)
    if isinstance(found, Refusal):
        assert "takes no" in found.reply.text
        return
    reached = []
    for call in found.requests:
        body = json.loads(call.body)
        visible = [*body.get("to", []), *body.get("cc", [])]
        everybody = [*visible, *body.get("bcc", [])]
        assert [plain(one) for one in call.recipients] == [plain(one) for one in everybody]
        assert len(everybody) <= count
        hidden = [address for address in visible if plain(address) not in shown]
        assert not hidden or everybody == hidden
        reached += everybody
    assert sorted(map(plain, reached)) == sorted(map(plain, envelope))
