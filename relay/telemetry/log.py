"""MailLog: one method a business fact, one line a call, each with the message id. Nothing else writes the mail log.

In: facts, as plain values. Out: lines on standard error (see `output`) in the format of `render`. Names of fields:
`id` the message, `from` and `to` the envelope, `peer` the other side's address. Bodies, passwords and keys are never
among them. Takes committed events as an `EventSink`. Never raises, never blocks.
"""

from __future__ import annotations

import functools
import logging
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

from relay.mail.event import Event, EventKind
from relay.ports import Clock
from relay.telemetry.output import Output
from relay.telemetry.render import Renderer, console_renderer, json_renderer, scrub

Format = Literal["auto", "console", "json"]
Level = Literal["debug", "info", "warning", "error"]

_DEBUG, _INFO, _WARNING, _ERROR = range(4)
_LEVELS: Final = {"debug": _DEBUG, "info": _INFO, "warning": _WARNING, "error": _ERROR}
# What an operator may have to look at; everything else is the ordinary course of mail.
_WARNINGS: Final = frozenset({EventKind.BOUNCED, EventKind.EXPIRED, EventKind.IN_DOUBT})
_LONGEST_TEXT: Final = 20_000


class _Lines:
    """Facts to lines by level; what is below the least level costs a comparison."""

    __slots__ = ("_least", "_render", "_write")

    def __init__(self, output: Output, render: Renderer, least: int) -> None:
        self._write = output.write
        self._render = render
        self._least = least

    def debug(self, event: str, **fields: Any) -> None:
        if self._least <= _DEBUG:
            self._write(self._render("debug", event, fields))

    def info(self, event: str, **fields: Any) -> None:
        self.info_of(event, fields)

    def info_of(self, event: str, fields: Mapping[str, Any]) -> None:
        if self._least <= _INFO:
            self._write(self._render("info", event, fields))

    def warning(self, event: str, **fields: Any) -> None:
        self.warning_of(event, fields)

    def warning_of(self, event: str, fields: Mapping[str, Any]) -> None:
        if self._least <= _WARNING:
            self._write(self._render("warning", event, fields))

    def error(self, event: str, **fields: Any) -> None:
        self._write(self._render("error", event, fields))


class MailLog:
    """The log of one process. `facts` of any method are further fields: strings, numbers, flags."""

    def __init__(self, clock: Clock, *, format: Format = "auto", level: Level = "info", descriptor: int = 2) -> None:  # noqa: A002 -- the setting is called so
        console = format == "console" or (format == "auto" and os.isatty(descriptor))
        render = (console_renderer if console else json_renderer)(clock)
        self._output = Output(descriptor, lambda lost: render("warning", "log_lost", {"lines": lost}))
        self._log = _Lines(self._output, render, _LEVELS[level])

    def gather(self, defer: Callable[[Callable[[], None]], object]) -> None:
        """Lines of one turn of the loop whose `call_soon` this is are written together from now on."""
        self._output.gather(defer)

    def scatter(self) -> None:
        """The loop is about to end."""
        self._output.scatter()

    # --- the process ---------------------------------------------------------------------------------------

    def server_started(self, version: str, **facts: Any) -> None:
        self._log.info("server_started", version=version, **facts)

    def server_stopped(self, **facts: Any) -> None:
        self._log.info("server_stopped", **facts)

    def listening(self, listener: str, address: str, port: int, tls: str) -> None:
        self._log.info("listening", listener=listener, address=address, port=port, tls=tls)

    def note(self, event: str, **facts: Any) -> None:
        """A rare fact of running without a method of its own, such as `spool_recovered`."""
        self._log.info(event, **facts)

    def warn(self, event: str, **facts: Any) -> None:
        """Something an operator should look at; `error=` may hold an exception."""
        self._log.warning(event, **_explained(facts))

    def failure(self, where: str, error: BaseException, message_id: str | None = None) -> None:
        """A bug or a broken part, with its traceback; credentials in the text are masked."""
        trace = "".join(traceback.format_exception(error, limit=-12))[-_LONGEST_TEXT:]
        self._log.error("failure", where=where, id=message_id, error=_error_text(error), traceback=scrub(trace))

    # --- sessions ------------------------------------------------------------------------------------------

    def connected(self, peer: str, listener: str) -> None:
        self._log.debug("connected", peer=peer, listener=listener)

    def disconnected(self, peer: str, listener: str) -> None:
        self._log.debug("disconnected", peer=peer, listener=listener)

    def authenticated(self, peer: str, listener: str, username: str) -> None:
        self._log.info("authenticated", peer=peer, listener=listener, username=username)

    def recognised(self, peer: str, listener: str, username: str) -> None:
        self._log.info("recognised", peer=peer, listener=listener, username=username)

    def auth_failed(self, peer: str, listener: str, helo: str = "") -> None:
        self._log.warning("auth_failed", peer=peer, listener=listener, helo=helo)

    def rejected(self, peer: str, listener: str, reply: str, **facts: Any) -> None:
        self._log.info("rejected", peer=peer, listener=listener, reply=reply, **facts)

    def http_request(self, method: str, path: str, status: int, seconds: float) -> None:
        """`path` without its query, which may hold a key."""
        self._log.debug("http_request", method=method, path=path, status=status, seconds=seconds)

    # --- messages ------------------------------------------------------------------------------------------

    def queued(
        self,
        message_id: str,
        mail_from: str | None,
        recipients: int,
        size: int,
        **facts: Any,
    ) -> None:
        sender = "<>" if mail_from is None else mail_from
        self._log.info_of("queued", {"id": message_id, "from": sender, "recipients": recipients, "size": size, **facts})

    def attempt(self, message_id: str, transport: str, destination: str, recipients: int, number: int) -> None:
        self._log.debug(
            "attempt", id=message_id, transport=transport, destination=destination, recipients=recipients, number=number
        )

    def delivered(self, message_id: str, recipient: str, reply: str, **facts: Any) -> None:
        self._log.info("delivered", id=message_id, to=recipient, reply=reply, **facts)

    def sent(self, message_id: str, recipient: str, reply: str, **facts: Any) -> None:
        self._log.info("sent", id=message_id, to=recipient, reply=reply, **facts)

    def deferred(self, message_id: str, recipient: str, reply: str, **facts: Any) -> None:
        self._log.info("deferred", id=message_id, to=recipient, reply=reply, **facts)

    def bounced(self, message_id: str, recipient: str, reply: str, **facts: Any) -> None:
        self._log.warning("bounced", id=message_id, to=recipient, reply=reply, **facts)

    def expired(self, message_id: str, recipient: str, reply: str, **facts: Any) -> None:
        self._log.warning("expired", id=message_id, to=recipient, reply=reply, **facts)

    def notice_sent(self, message_id: str, notice_id: str, recipient: str) -> None:
        """`notice_id` is the delivery status notification queued for `message_id`."""
        self._log.info("notice_sent", id=message_id, notice=notice_id, to=recipient)

    def notice_withheld(self, message_id: str, recipient: str) -> None:
        """A notice about `message_id` was not made, because `recipient` had too many lately."""
        self._log.warning("notice_withheld", id=message_id, to=recipient)

    def route_paused(self, route: str, seconds: float, reply: str) -> None:
        self._log.warning("route_paused", route=route, seconds=seconds, reply=reply)

    def route_resumed(self, route: str) -> None:
        self._log.info("route_resumed", route=route)

    def next_hop_opened(self, next_hop: str, seconds: float, reply: str) -> None:
        self._log.warning("next_hop_opened", next_hop=next_hop, seconds=round(seconds, 1), reply=reply)

    def next_hop_closed(self, next_hop: str) -> None:
        self._log.info("next_hop_closed", next_hop=next_hop)

    def event(self, event: Event) -> None:
        """A committed event (ports.EventSink); its details become fields."""
        fields: dict[str, Any] = {**event.detail}
        fields.pop("event", None)
        fields.update(id=event.message_id, to=event.recipient or None, reply=event.reply or None)
        write = self._log.warning_of if event.kind in _WARNINGS else self._log.info_of
        write(event.kind.value, fields)


def _explained(facts: dict[str, Any]) -> dict[str, Any]:
    return {name: _error_text(v) if isinstance(v, BaseException) else v for name, v in facts.items()}


def _error_text(error: BaseException) -> str:
    try:
        text = str(error)[:_LONGEST_TEXT]
    except Exception:  # somebody's __str__; the type alone has to do
        text = ""
    return scrub(f"{type(error).__name__}: {text}")


class LibraryHandler(logging.Handler):
    """Brings what libraries log through the standard library into the same lines, at WARNING and above."""

    def __init__(self, log: MailLog) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = scrub(record.getMessage()[:_LONGEST_TEXT])
        except Exception as error:  # a library's own formatting mistake
            text = f"unreadable record: {type(error).__name__}"
        if record.exc_info and record.exc_info[1] is not None:
            self._log.failure(record.name, record.exc_info[1])
        self._log.warn("library", logger=record.name, text=text)


def route_library_logs(log: MailLog) -> None:
    """Send the standard library's logging to `log`. For the process' start, once; not for libraries or tests.

    aiosmtpd logs every DATA line at DEBUG and every command at INFO: neither passes (reliability, log injection).
    """
    root = logging.getLogger()
    root.handlers[:] = [LibraryHandler(log)]
    root.setLevel(logging.WARNING)
    logging.captureWarnings(True)
    sys.unraisablehook = functools.partial(_log_unraisable, log)


def _log_unraisable(log: MailLog, found: sys.UnraisableHookArgs) -> None:
    """What Python would print over several lines. A host name in TLS that is no text is a client's doing, not a bug."""
    error = found.exc_value
    if isinstance(error, UnicodeDecodeError) and isinstance(found.object, bytes):
        log.note("tls_name_refused", name=found.object.decode("ascii", "backslashreplace"))
    elif error is not None:
        log.failure("unraisable", error)
