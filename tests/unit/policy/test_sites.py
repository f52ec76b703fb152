"""Domains that go to the same hosts have one name together, and others have not."""

from __future__ import annotations

import pytest

from relay.policy.sites import site_of
from relay.ports import MxHost

OWN = {"hoster": ("*.hoster.example", "mx.old-hoster.example"), "mine": ("*.google.com",)}


def hosts(*names: str, preference: int = 10) -> list[MxHost]:
    return [MxHost(name, preference, ("192.0.2.1",)) for name in names]


@pytest.mark.parametrize(
    ("given", "own", "site"),
    [
        (hosts("mx1.example", "mx2.example"), {}, "mx:mx1.example,mx2.example"),
        (hosts("mx2.example", "mx1.example"), {}, "mx:mx1.example,mx2.example"),
        (hosts("mx1.example") + hosts("backup.example", preference=20), {}, "mx:mx1.example"),
        (hosts("a-example.mail.protection.outlook.com"), {}, "mx:microsoft"),
        (hosts("aspmx.l.google.com") + hosts("alt1.aspmx.l.google.com", preference=20), {}, "mx:google"),
        (hosts("mail.protection.outlook.com.evil.example"), {}, "mx:mail.protection.outlook.com.evil.example"),
        (hosts("in1.hoster.example", "mx.old-hoster.example"), OWN, "mx:hoster"),
        (hosts("in1.hoster.example", "mx.other.example"), OWN, "mx:in1.hoster.example,mx.other.example"),
        (hosts("aspmx.l.google.com"), OWN, "mx:mine"),
        ([], {}, ""),
    ],
)
def test_the_best_hosts_name_the_site(given: list[MxHost], own: dict[str, tuple[str, ...]], site: str) -> None:
    assert site_of(given, own) == site


def test_a_long_list_has_a_short_name_of_its_own() -> None:
    many = [f"mx{number}.a-rather-long-name.example" for number in range(16)]
    names = {site_of(hosts(*many), {}), site_of(hosts(*many[:-1], "mx99.example"), {})}

    assert len(names) == 2
    assert all(len(name) < 100 for name in names)
