"""The registry of providers: which kinds there are, and how a configured one is made.

In: `[provider.NAME]` settings. Out: a Provider. Built-in kinds are the modules of this package that end in
`PROVIDER = ItsClass`; others come from installed distributions through the entry point group `sendrelay.providers`.
Imports a provider only when asked. Raises SettingsError for an unknown kind or a wrong option.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Iterator
from importlib.metadata import entry_points

from pydantic import ValidationError

from relay.mail.errors import SettingsError
from relay.settings import ProviderSettings
from relay.settings.words import in_words
from relay.transports.providers.base import OptionError, Provider

ENTRY_POINT_GROUP = "sendrelay.providers"


def provider_classes() -> dict[str, type[Provider]]:
    """Every known kind, built-in first. Raises SettingsError where a distribution's entry point cannot be used."""
    found = {provider.kind: provider for provider in _built_in()}
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        try:
            provider = entry.load()
        except Exception as error:
            raise SettingsError(
                f"provider kind {entry.name!r} cannot be loaded: {error}; repair or remove it"
            ) from error
        if not (isinstance(provider, type) and issubclass(provider, Provider)):
            raise SettingsError(f"entry point {entry.value!r} is no Provider; repair or remove the distribution")
        found.setdefault(provider.kind, provider)
    return found


def _built_in() -> Iterator[type[Provider]]:
    for module in pkgutil.iter_modules(__path__):
        provider = getattr(importlib.import_module(f"{__name__}.{module.name}"), "PROVIDER", None)
        if provider is not None:
            yield provider


def build_provider(name: str, settings: ProviderSettings) -> Provider:
    """The provider of `[provider.NAME]`. Raises SettingsError with the key and the fix."""
    classes = provider_classes()
    provider = classes.get(settings.kind)
    if provider is None:
        near = difflib.get_close_matches(settings.kind, classes, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(classes))}"
        raise SettingsError(f"provider.{name}.kind: no provider {settings.kind!r}; {hint}")
    try:
        options = provider.Options.model_validate(settings.options)
    except ValidationError as error:
        key = f"provider.{name}.options"
        cause = error.errors()[0].get("ctx", {}).get("error")
        if isinstance(cause, OptionError):
            raise SettingsError(f"{key}.{cause.key}: {cause}") from error
        raise SettingsError(in_words(error, settings.options, provider.Options, key)) from error
    return provider(options, (settings.base_url or provider.url_for(options)).rstrip("/"))
