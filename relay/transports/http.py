"""ProviderTransport: a message as a provider's calls over HTTP.

In: a DeliveryRequest and the message's bytes. Out: a DeliveryReport with an outcome for every recipient. Never raises
for a result. Raises SettingsError at construction (key, CA file, URL). What is made of lost answers: http_calls.py.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from relay.mail.errors import MessageSyntaxError
from relay.mail.outcome import Deferred, Failed, Fault, InDoubt, Outcome
from relay.mail.reply import printable, reply
from relay.mail.session import TlsFacts
from relay.ports import Clock, DeliveryReport, DeliveryRequest, Knowledge, Resolver
from relay.settings import ProviderSettings
from relay.transports.guard import AddressGuard
from relay.transports.http_calls import Calls, Line
from relay.transports.http_settings import checked_host, read_api_key, tls_context
from relay.transports.inquiry import known_to
from relay.transports.oauth import token_source
from relay.transports.promises import unkept_by_api
from relay.transports.providers.base import HttpRequest, HttpResponse, Lost, Provider, Refusal, Rendering

_log = logging.getLogger(__name__)


class ProviderTransport:
    """One `[provider.NAME]`. Built anywhere; its session is made inside the loop that first delivers."""

    def __init__(
        self, name: str, settings: ProviderSettings, provider: Provider, clock: Clock, resolver: Resolver
    ) -> None:
        """Reads `api_key_file` and `ca_file`. Raises SettingsError naming the key and the fix."""
        self._name = name
        self._provider = provider
        guard = AddressGuard(allow_private=settings.allow_private)
        self._host = checked_host(f"provider.{name}.base_url", provider.base_url, settings.allow_private, guard)
        signs = settings.oauth is not None and settings.oauth.grant == "jwt_bearer"
        key = "" if signs else read_api_key(name, settings.api_key_file)
        tokens = token_source(name, settings, provider, key, guard, clock)
        secure = any(url.startswith("https") for url in (provider.base_url, provider.token_url))
        tls = (
            tls_context(f"provider.{name}.ca_file", settings.ca_file) if secure else True
        )  # True: aiohttp's word for "its default"
        line = Line(f"provider {name}", self._host, key, tokens, guard, tls, settings.timeout)
        self._calls = Calls(provider, line, clock, resolver)

    async def deliver(self, request: DeliveryRequest, content: bytes) -> DeliveryReport:
        """An outcome for every recipient; never raises for a result."""
        unkept = unkept_by_api(request)
        rendering = (
            Failed(unkept, elsewhere=True)
            if unkept is not None
            else self._render(request, _content_of(request, content))
        )
        if not isinstance(rendering, Rendering):
            return DeliveryReport({recipient.address: rendering for recipient in request.recipients})
        outcomes: dict[str, Outcome] = {}
        tls: TlsFacts | None = None
        for position, call in enumerate(rendering.requests):
            found, facts = await self._calls.carry(call)
            outcomes |= found
            tls = facts or tls
            stop = _stops_the_rest(found.values())
            if stop is not None:
                rest = (address for later in rendering.requests[position + 1 :] for address in later.recipients)
                outcomes |= dict.fromkeys(rest, stop)
                break
        return DeliveryReport(outcomes, self._host, tls)

    async def ask(self, call: HttpRequest) -> HttpResponse | Outcome:
        """A question that carries no message: its answer, or what stood in its way. Raises nothing."""
        return await self._calls.ask(call)

    @property
    def settles_doubt(self) -> bool:
        """See ports.SettlesDoubt."""
        return self._provider.can_be_asked or self.repeatable_for > 0

    @property
    def repeatable_for(self) -> float:
        """See ports.SettlesDoubt."""
        return self._provider.key_seconds if self._provider.repeats else 0.0

    async def inquire(self, request: DeliveryRequest, content: bytes, since: float) -> Knowledge | None:
        """See ports.SettlesDoubt."""
        if not self._provider.can_be_asked:
            return None
        return await known_to(self._provider, self.ask, Lost(request, _content_of(request, content), since))

    async def close(self) -> None:
        await self._calls.close()

    # --- before the network --------------------------------------------------------------------------------

    def _render(self, request: DeliveryRequest, content: bytes) -> Rendering | Outcome:
        try:
            rendering = self._provider.render(request, content)
        except MessageSyntaxError as error:
            text = printable(f"The message cannot be taken apart for {self._provider.title}: {error}")
            return Failed(reply(550, "5.6.0", text), elsewhere=True)
        except Exception:
            _log.exception("provider %s: cannot render message %s", self._name, request.message_id)
            return Deferred(reply(451, "4.3.0", "Internal error"))
        if isinstance(rendering, Refusal):
            return Failed(rendering.reply, elsewhere=True)
        covered = sorted(address for call in rendering.requests for address in call.recipients)
        if covered != sorted(recipient.address for recipient in request.recipients):
            _log.error("provider %s: calls for message %s miss or add recipients", self._name, request.message_id)
            return Deferred(reply(451, "4.3.0", "Internal error"))
        return rendering


def _content_of(request: DeliveryRequest, content: bytes) -> bytes:
    """What an API is given of it."""
    return request.text if request.envelope.binary and request.text is not None else content


def _stops_the_rest(outcomes: Iterable[Outcome]) -> Outcome | None:
    """After a fault of host or route, or a lost answer, the next calls of the message would only meet it again."""
    for outcome in outcomes:
        if isinstance(outcome, InDoubt) or (isinstance(outcome, Deferred) and outcome.repeats):
            return Deferred(reply(451, "4.4.2", "An earlier call for this message got no answer"))
        if isinstance(outcome, Deferred) and outcome.fault is not Fault.MESSAGE:
            return outcome
    return None
