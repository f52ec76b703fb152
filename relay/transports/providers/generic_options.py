"""`[provider.NAME.options]` of kind http: an API in the operator's words, checked as a whole at the start.

In: the options table. Out: HttpOptions, and from it a Plan: compiled templates and what they can say. Raises ValueError
(pydantic's ValidationError outside) with the key, what is wrong and what to write instead. Pure: the one secret is
written `{key}` in a header, and is filled in by `authorise` alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from relay.mail.parts import Loss
from relay.transports.providers.base import OptionError, ProviderOptions
from relay.transports.providers.generic_answer import Meaning, Pointer, StatusKey
from relay.transports.providers.generic_callbacks import CallbackOptions
from relay.transports.providers.generic_question import MESSAGE_ID, QuestionOptions
from relay.transports.providers.template import (
    TemplateError,
    Text,
    compile_json,
    compile_text,
    demands,
    slots_of,
    texts_of,
)
from relay.transports.providers.template_values import (
    ATTACHMENT,
    COPY,
    ENVELOPE,
    FIELD,
    FILES,
    MAILBOX,
    PLACEHOLDERS,
    RAW,
    SINGLE,
    Shapes,
)

BODIES: Final = ("json", "form", "multipart", "raw")
KEYS: Final = frozenset(("key", "key.basic", "key.user", "key.password"))
_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_VALUE: Final = re.compile(r"[\x20-\x7e]{0,4000}")
_OURS: Final = frozenset(("host", "content-length", "transfer-encoding", "connection", "expect", "te", "upgrade"))
_SECRET: Final = re.compile(r"authorization|cookie|(.*[-_])?(api-?key|token|secret|password|auth)", re.IGNORECASE)
_ONE: Final = frozenset(name for name in COPY if name.startswith("recipient") and not name.startswith("recipients"))
_SEVERAL: Final = frozenset(name for name in COPY if name.startswith("recipients"))
_SHOWN: Final = frozenset(("to", "to.emails"))
_BESIDE_TO: Final = frozenset(("cc", "cc.emails", "bcc", "bcc.emails"))
_LISTS: Final = frozenset(name for name in COPY if name.endswith(".emails"))
_BESIDE_RAW: Final = frozenset((*ENVELOPE, *RAW, *_ONE, *_SEVERAL, "idempotency_key"))


def _url(text: str) -> str:
    url = urlsplit(text)
    if url.scheme not in ("https", "http") or not url.hostname:
        raise ValueError(f"write it as https://host/path (found {text!r})")
    if url.query or url.fragment or "{" in text:
        raise ValueError("write it without query, fragment and placeholders; those of the query stand in `query`")
    return text


class HttpOptions(ProviderOptions):
    """`[provider.NAME.options]` of kind http."""

    accept: tuple[Loss, ...] = Field(
        (
            Loss.ATTACHED_MESSAGE,
            Loss.ATTACHMENT_CHARSET,
            Loss.FORMAT_FLOWED,
            Loss.RECIPIENT_ROLE,
            Loss.VISIBLE_RECIPIENTS,
        ),
        description="What a message may lose here without being refused",
    )
    url: Annotated[str, AfterValidator(_url)] = Field(description="Where a message is posted to")
    method: Literal["POST", "PUT", "PATCH"] = Field("POST", description="HTTP method")
    query: dict[str, str] = Field({}, description="Parameters of the URL, with placeholders")
    headers: dict[str, str] = Field(
        {"Authorization": "Bearer {key}"}, description="Header fields of the call; {key} is the content of api_key_file"
    )
    body: Literal["json", "form", "multipart", "raw"] = Field(
        "json", description="json: `template`; form, multipart: `fields`; raw: the message itself"
    )
    template: str = Field("", description="JSON with placeholders")
    fields: dict[str, str] = Field({}, description="Form fields with placeholders")
    address: str = Field('{"email": "{email}", "name": "{name}"}', description="How an address is written, JSON")
    attachment: str = Field(
        '{"filename": "{filename}", "content": "{content}", "type": "{type}"}',
        description="How an attachment is written, JSON; {content_id} and {disposition} carry inline images",
    )
    header: str = Field("", description="How a header field is written, JSON; empty: one object of all")
    recipients_per_call: int = Field(1, ge=1, description="Recipients the API takes in one call")
    message_octets: int = Field(0, ge=0, description="Largest message; 0: no limit")
    attachment_octets: int = Field(0, ge=0, description="All attachments together, decoded; 0: no limit")
    idempotent: bool = Field(False, description="The API carries out a call with the same {idempotency_key} once")
    expands: tuple[str, ...] = Field((), description="What the API expands in texts, such as {{; see template-syntax")
    senders: tuple[str, ...] = Field((), description="From addresses it sends for, where the template has no {from}")
    id: Pointer = Field("", description="JSON pointer to the id in an answer; accepted without it is in doubt")
    id_header: str = Field("", description="Header of an answer that holds the id instead")
    error: tuple[Pointer, ...] = Field(("/error/message", "/message", "/error"), description="Pointers to its words")
    code: Pointer = Field("", description="JSON pointer to what `codes` are about")
    codes: dict[str, Meaning] = Field({}, description="What a code means; before the status")
    statuses: dict[StatusKey, Meaning] = Field({}, description="What a status means, such as 422 or 5xx")
    callback: CallbackOptions | None = Field(None, description="What it posts to us later; none: nothing")
    question: QuestionOptions | None = Field(
        None, description="How it is asked whether it has a message whose answer was lost; none: it cannot be"
    )

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        plan_of(self)
        return self


@dataclass(frozen=True, slots=True)
class Plan:
    """Compiled. `used`: every placeholder. `secret`: the headers with the key; `headers`: the others.

    `joined`: addresses stand in one text with commas between them.
    """

    body: Any
    headers: Mapping[str, Text]
    secret: Mapping[str, Text]
    query: Mapping[str, Text]
    shapes: Shapes
    used: frozenset[str]
    raw: bool
    typed: bool
    inline: bool
    joined: bool

    def says(self, *names: str) -> bool:
        return any(name in self.used for name in names)

    @property
    def attaches(self) -> bool:
        return self.says("attachments", "attachments.files")


def plan_of(options: HttpOptions) -> Plan:
    """Raises ValueError."""
    shapes = {
        "address": _shape("address", options.address, MAILBOX, {"email", "mailbox"}),
        "attachment": _shape("attachment", options.attachment, ATTACHMENT, {"content"}),
        "header": _shape("header", options.header, FIELD, {"value"}) if options.header else None,
    }
    body = _body(options)
    plain, secret = _headers(options)
    query = {name: _text(f"query.{name}", text) for name, text in options.query.items()}
    texts = [body, list(plain.values()), list(query.values())]
    used = frozenset(slot.name for slot in slots_of(texts))
    attachment = {slot.name for slot in slots_of(shapes["attachment"])}
    plan = Plan(
        body,
        plain,
        secret,
        query,
        Shapes(**shapes),
        used,
        raw=options.body == "raw" or bool(used & RAW.keys()),
        typed="attachments.files" in used or "type" in attachment,
        inline="inline.files" in used or ("content_id" in attachment and bool(used & {"attachments", "inline"})),
        joined=_joins(body) or any(slot.name in _LISTS for text in plain.values() for slot in text.slots),
    )
    _demand_sense(options, plan)
    return plan


def _joins(body: Mapping[str, Any]) -> bool:
    """Whether a list of addresses stands inside other text, with commas."""
    return any(text.alone is None and any(slot.name in _LISTS for slot in text.slots) for text in texts_of(body))


# --- one by one --------------------------------------------------------------------------------------------


def _shape(key: str, text: str, known: frozenset[str], wanted: set[str]) -> Any:
    """What nobody may fall out of: it has one of `wanted`, and no `!`."""
    try:
        tree = compile_json(text, known)
    except TemplateError as error:
        raise OptionError(key, str(error)) from None
    slots = list(slots_of(tree))
    if not wanted & {slot.name for slot in slots}:
        raise OptionError(key, f"says nothing; use {{{' or {'.join(f'{name}}}' for name in sorted(wanted))}")
    if any(slot.demanded for slot in slots):
        raise OptionError(key, "a ! would leave it out of the call; leave the ! out")
    return tree


def _text(key: str, text: str, known: frozenset[str] = PLACEHOLDERS - SINGLE) -> Text:
    """For the URL and header fields: words and lists of words only."""
    try:
        found = compile_text(text, known)
    except TemplateError as error:
        raise OptionError(key, str(error)) from None
    if any(slot.demanded for slot in found.slots):
        raise OptionError(key, "a ! means nothing here; leave it out")
    return found


def _body(options: HttpOptions) -> Any:
    _demand_own_keys(options)
    if options.body == "json":
        tree = _json_template(options.template)
        _demand_a_top(tree)
        return tree
    files = options.body == "multipart"
    found = {}
    for name, text in options.fields.items():
        try:
            found[name] = compile_text(text, PLACEHOLDERS if files else PLACEHOLDERS - FILES, SINGLE)
        except TemplateError as error:
            hint = "" if files or not any(f"{{{name}" in text for name in FILES) else '; files need body = "multipart"'
            raise OptionError(f"fields.{name}", f"{error}{hint}") from None
    return found


def _json_template(text: str) -> Any:
    try:
        return compile_json(text, PLACEHOLDERS - FILES, SINGLE)
    except TemplateError as error:
        raise OptionError("template", str(error)) from None


def _demand_own_keys(options: HttpOptions) -> None:
    given = {"template": bool(options.template), "fields": bool(options.fields)}
    wanted = {"json": "template", "form": "fields", "multipart": "fields"}.get(options.body, "")
    for key, there in given.items():
        if there and key != wanted:
            raise OptionError(key, f'means nothing with body = "{options.body}"; remove it')
    if wanted and not given[wanted]:
        raise OptionError(wanted, f'missing; body = "{options.body}" needs it, see docs/providers/http.md')


def _demand_a_top(tree: Any) -> None:
    """A call without a body would be no call."""
    children = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else None
    if not children:
        raise OptionError("template", "the top has to be an object or a list with something in it")
    top = children if isinstance(tree, list) else ()
    for child in (*top, *(tree.values() if isinstance(tree, dict) else ())):
        if isinstance(child, Text) and any(slot.demanded for slot in child.slots):
            raise OptionError("template", "a ! at the top would leave nothing of it; leave it out there")
    for name, around in demands(tree):
        others = sorted(around - {name})
        if others:
            raise OptionError(
                "template", f"{{{others[0]}}} would go wherever {{{name}!}} is absent; give that an object of its own"
            )


def _headers(options: HttpOptions) -> tuple[dict[str, Text], dict[str, Text]]:
    plain, secret = {}, {}
    for name, text in options.headers.items():
        key = f"headers.{name}"
        if not _TOKEN.fullmatch(name) or name.lower() in _OURS:
            raise OptionError(key, "no header field an operator sets; remove it")
        if not _VALUE.fullmatch(text):
            raise OptionError(key, "write printable ASCII on one line")
        if name.lower() == "content-type" and options.body in ("form", "multipart"):
            raise OptionError(key, f'body = "{options.body}" sets it; remove it')
        if "{key" in text:
            secret[name] = _text(key, text, KEYS)
            continue
        if _SECRET.fullmatch(name):
            raise OptionError(key, "a secret does not stand here; put it into api_key_file, and write {key}")
        plain[name] = _text(key, text)
    if not secret:
        raise OptionError("headers", 'nothing carries the key; add Authorization = "Bearer {key}"')
    if len({name.lower() for name in options.headers}) < len(options.headers):
        raise OptionError("headers", "one name stands there in two spellings; leave one out")
    return plain, secret


# --- together ----------------------------------------------------------------------------------------------


def _demand_sense(options: HttpOptions, plan: Plan) -> None:
    place = {"json": "template", "raw": "headers"}.get(options.body, "fields")
    for problem in (*_recipients(plan), *(_raw(plan) if plan.raw else _structured(options, plan))):
        raise OptionError(place, problem)
    if plan.used & _ONE and options.recipients_per_call > 1:
        raise OptionError("recipients_per_call", "has to be 1 with {recipient...}, which is one address")
    if options.idempotent and not plan.says("idempotency_key"):
        raise OptionError("idempotent", 'needs {idempotency_key} in the call, such as headers."Idempotency-Key"')
    if options.codes and not options.code:
        raise OptionError("codes", "nothing says where a code stands; set code too")
    if options.callback is not None and not (options.id or options.id_header):
        raise OptionError("callback", "nothing joins it to a message; say with id or id_header where an answer's id is")
    if options.question is not None:
        _demand_findable(options, options.question, plan)


def _demand_findable(options: HttpOptions, question: QuestionOptions, plan: Plan) -> None:
    """What it is asked for has to have been in the call, and the key goes to one host."""
    if urlsplit(question.url)[:2] != urlsplit(options.url)[:2]:
        raise OptionError("question.url", "the key would go to another host; use the one of `url`")
    if question.by_id and not plan.says("id"):
        raise OptionError("question.query", "the call does not carry {id}; put it where the API keeps it")
    if not question.by_id and not (plan.raw or plan.says("headers")):
        raise OptionError("question.query", f"the call carries no header fields, and so no {MESSAGE_ID}; ask by {{id}}")


def _recipients(plan: Plan) -> Iterator[str]:
    wanted = _SEVERAL | _ONE if plan.raw else _SHOWN | _ONE
    words = "{recipients.emails}, {recipients} or {recipient.email}" if plan.raw else "{to} or {recipient.email}"
    if not plan.used & wanted:
        yield f"nobody's address is said; use {words}"
    if plan.used & _ONE and plan.used & (_SHOWN | _SEVERAL | _BESIDE_TO):
        yield "recipients stand there twice; use {recipient...} or lists of them"


def _raw(plan: Plan) -> Iterator[str]:
    strange = sorted(plan.used - _BESIDE_RAW)
    if strange:
        yield f"{{{strange[0]}}} is not known beside the whole message; known: {', '.join(sorted(_BESIDE_RAW))}"


def _structured(options: HttpOptions, plan: Plan) -> Iterator[str]:
    if plan.used & _SEVERAL:
        yield "{recipients...} is for the whole message alone; use {to}, {cc} and {bcc}"
    if not plan.says("from", "from.email", "from.mailbox") and not options.senders:
        yield "no author is said; use {from}, or list in `senders` whose mail the API sends"
    if not plan.says("subject"):
        yield "no subject is said; use {subject}"
    if not plan.says("text", "html"):
        yield "nothing of the message is said; use {text} and {html}, or {raw}"
    if not plan.says("headers") and Loss.CUSTOM_HEADER not in options.accept:
        yield 'every message has header fields (Date, Message-ID); use {headers}, or put "custom-header" into accept'
