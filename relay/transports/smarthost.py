"""Delivery through a relay that takes our mail over SMTP, with verified TLS and AUTH.

In: a request for any domains. Out: Sent when the relay took it, Deferred, Failed or InDoubt.
Refused credentials are the route's fault: the mail stays. AUTH never goes in clear text but to a loopback host.
Sources: RFC 6409, RFC 8314 §3.3, RFC 4954. Raises SettingsError at construction only.
"""

from __future__ import annotations

import logging
import stat
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

from relay.mail.errors import SettingsError
from relay.mail.outcome import Failed
from relay.mail.reply import printable, reply
from relay.ports import DeliveryReport, DeliveryRequest, LongContent
from relay.settings import DeliverySettings, SmarthostSettings
from relay.transports.oauth import SmarthostTokens
from relay.transports.pool import Pool
from relay.transports.promises import rather_than_lost
from relay.transports.smtp_client import Endpoint, Sweeper, TlsMode
from relay.transports.smtp_sender import RECIPIENTS_PER_TRANSACTION, SmtpSender
from relay.transports.smtp_session import Credentials, Dialer
from relay.transports.tls import unverified_context, verifying_context

_log = logging.getLogger(__name__)


class SmarthostTransport:
    """The transport called `smarthost:NAME`."""

    takes_long = True

    def __init__(
        self,
        name: str,
        settings: SmarthostSettings,
        delivery: DeliverySettings,
        hostname: str,
        tokens: SmarthostTokens | None = None,
    ) -> None:
        """`name` is the table's, for error texts; `hostname` is what EHLO says. `tokens` take a password's place.

        Raises SettingsError.
        """
        where = f"[smarthost.{name}]"
        sweeper = Sweeper.for_timeouts(delivery.timeouts, delivery.idle_connection)
        pool = Pool(sweeper, messages=delivery.messages_per_connection, idle=delivery.idle_connection)
        dialer = Dialer(
            hostname,
            delivery.timeouts,
            verifying_context(settings.ca_file) if settings.verify else unverified_context(),
            sweeper,
            credentials=_credentials(where, settings, tokens),
            source_address=delivery.source_address,
        )
        mode: dict[str, TlsMode] = {"starttls": "require", "implicit": "implicit", "none": "off"}
        self._endpoints = [Endpoint(settings.host, settings.port, settings.host, mode[settings.tls])]
        most = min(settings.recipients or RECIPIENTS_PER_TRANSACTION, RECIPIENTS_PER_TRANSACTION)
        self._sender = SmtpSender(dialer, pool, final_hop=False, verified=settings.verify, recipients=most)
        self._tokens = tokens
        self._host = settings.host
        self._message_size = settings.message_size
        self._submitter = settings.submitter
        self._logs_in = bool(settings.username)

    async def deliver(self, request: DeliveryRequest, content: bytes | LongContent) -> DeliveryReport:
        """See ports.TakesLong."""
        if self._message_size and len(content) > self._message_size:
            text = f"{self._host} takes messages of {self._message_size} octets at most"
            outcome = Failed(reply(552, "5.3.4", printable(text)), elsewhere=True)
            return DeliveryReport(dict.fromkeys((one.address for one in request.recipients), outcome), self._host)
        if self._submitter:
            request = replace(request, submitter=request.envelope.submitter or "<>")
        elif self._logs_in:
            # RFC 4954 §5: else the message might count as submitted by our login there.
            request = replace(request, submitter="<>")
        if request.envelope.requiretls:
            return await rather_than_lost(lambda asked: self._send(asked, content), request)
        report, _ = await self._sender.send(self._endpoints, request, content)
        return report

    async def _send(self, request: DeliveryRequest, content: bytes | LongContent) -> DeliveryReport:
        report, _ = await self._sender.send(self._endpoints, request, content)
        return report

    async def close(self) -> None:
        await self._sender.close()
        if self._tokens is not None:
            await self._tokens.close()


def _credentials(where: str, settings: SmarthostSettings, tokens: SmarthostTokens | None) -> Credentials | None:
    if not settings.username:
        if settings.password_file is not None:
            raise SettingsError(f"{where}: password_file without username; add username")
        return None
    if settings.password_file is None:
        raise SettingsError(f"{where}: username without password_file; name a file that holds the password")
    if settings.tls == "none" and not _is_loopback(settings.host):
        raise SettingsError(f"{where}: the password would go out in clear text; set tls = 'starttls' or 'implicit'")
    if tokens is not None:
        return Credentials(settings.username, tokens=tokens)
    return Credentials(settings.username, read_secret(settings.password_file))


def read_secret(path: Path) -> str:
    """The one secret in `path`, without its line end. Raises SettingsError; warns where others may read the file."""
    try:
        secret = path.read_text(encoding="utf-8").rstrip("\r\n")
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        raise SettingsError(f"{path}: cannot read the password ({error.strerror}); check path and owner") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: password is not UTF-8 text; save it as UTF-8") from error
    if not secret or "\0" in secret:
        raise SettingsError(f"{path}: holds no password; write it on the first line")
    if mode & 0o077:
        _log.warning("%s can be read by other users (mode %04o); chmod 600 it", path, mode)
    return secret


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
