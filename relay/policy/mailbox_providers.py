"""Mailbox providers: whose mailboxes a domain holds, for the large ones with domains of their own.

In: a domain in lower case. Out: the provider's name, `""` for everybody else. Customers' domains that are hosted there
are not known: that would take DNS, and routing does without. Source: the providers' sign-up pages and MX records.
"""

from __future__ import annotations

from typing import Final

DOMAINS: Final[dict[str, tuple[str, ...]]] = {
    "apple": ("icloud.com", "mac.com", "me.com"),
    "comcast": ("comcast.net",),
    "fastmail": ("fastmail.com", "fastmail.fm"),
    "gmx": ("gmx.at", "gmx.ch", "gmx.com", "gmx.de", "gmx.net", "mail.com", "web.de"),
    "google": ("gmail.com", "googlemail.com"),
    "libero": ("iol.it", "libero.it"),
    "mail.ru": ("bk.ru", "inbox.ru", "list.ru", "mail.ru"),
    "microsoft": ("hotmail.com", "live.com", "msn.com", "outlook.com", "passport.com"),
    "orange": ("orange.fr", "wanadoo.fr"),
    "proton": ("pm.me", "proton.me", "protonmail.ch", "protonmail.com"),
    "qq": ("foxmail.com", "qq.com"),
    "t-online": ("magenta.de", "t-online.de"),
    "yahoo": ("aim.com", "aol.com", "rocketmail.com", "yahoo.com", "ymail.com"),
    "yandex": ("ya.ru", "yandex.com", "yandex.ru"),
}
# Names under which a provider has a domain in many countries: hotmail.fr, live.co.uk, yahoo.co.jp ...
_EVERYWHERE: Final = {
    "hotmail": "microsoft",
    "live": "microsoft",
    "outlook": "microsoft",
    "yahoo": "yahoo",
    "aol": "yahoo",
}
_COUNTRY_SECOND: Final = ("co", "com")
_PROVIDER_OF: Final = {domain: name for name, domains in DOMAINS.items() for domain in domains}


def mailbox_provider_of(domain: str) -> str:
    known = _PROVIDER_OF.get(domain)
    if known:
        return known
    name, _, rest = domain.partition(".")
    if name in _EVERYWHERE and _is_country(rest):
        return _EVERYWHERE[name]
    return ""


def _is_country(suffix: str) -> bool:
    """`fr`, `co.uk`, `com.au`; never a domain anybody can register below, such as `example.fr`."""
    second, _, country = suffix.rpartition(".")
    return len(country) == 2 and (not second or second in _COUNTRY_SECOND)
