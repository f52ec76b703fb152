"""Known: a client is bound to an account by where it comes from, and only there."""

from __future__ import annotations

import pytest

from relay.mail.errors import SettingsError
from relay.mail.session import Session
from relay.settings import DeviceSettings, ListenerSettings
from relay.smtpd.known import Known

LISTENER = ListenerSettings(name="devices", port=0)


def device(name: str, *network: str, **more) -> DeviceSettings:
    given = {
        "account": "office",
        "senders": ["@office.example", "scan@other.example"],
        "listeners": ["devices"],
        **more,
    }
    return DeviceSettings(name=name, network=network, **given)


def username(known: Known, peer: str, uid: int | None = None) -> str | None:
    login = known.find(Session(peer, 1, "", "SMTP", "devices", uid=uid))
    return login.username if login else None


def everybody(account: str) -> bool:
    return True


@pytest.mark.parametrize(
    ("peer", "found"),
    [
        ("192.168.7.20", "device:scale"),
        ("::ffff:192.168.7.20", "device:scale"),
        ("192.168.7.21", "device:floor"),
        ("2001:db8::7", "device:floor"),
        ("fe80::1%eth0", "device:floor"),
        ("192.168.8.1", None),
        ("local", None),
    ],
)
def test_the_most_particular_network_says_who_it_is(peer: str, found: str | None) -> None:
    devices = [device("floor", "192.168.7.0/24", "2001:db8::/64", "fe80::/64"), device("scale", "192.168.7.20/32")]
    assert username(Known(LISTENER, devices, everybody), peer) == found


def test_a_device_is_known_on_its_listeners_alone() -> None:
    other = ListenerSettings(name="submission", port=0)
    assert username(Known(other, [device("floor", "192.168.7.0/24")], everybody), "192.168.7.20") is None


def test_without_its_account_nobody_is_known() -> None:
    known = Known(LISTENER, [device("floor", "192.168.7.0/24")], lambda account: account != "office")
    assert username(known, "192.168.7.20") is None


def test_its_rights_are_its_senders() -> None:
    login = Known(LISTENER, [device("floor", "192.168.7.0/24", tolerate=["bare_lf"])], everybody).find(
        Session("192.168.7.20", 1, "", "SMTP", "devices")
    )
    assert login is not None
    assert login.bound
    assert login.tolerate == ("bare_lf",)
    assert [login.rights.allow(one) for one in ("x@office.example", "scan@other.example", "x@other.example")] == [
        True,
        True,
        False,
    ]


def test_a_user_is_known_on_a_unix_socket_by_name_or_number() -> None:
    peers = [{"user": user, "account": "shop", "senders": ["@shop.example"]} for user in ("root", "33")]
    known = Known(ListenerSettings(name="local", address="unix:/run/s", peer=peers), [], everybody)
    assert [username(known, "local", uid) for uid in (0, 33, 34)] == ["user:root", "user:33", None]


def test_a_user_this_machine_does_not_have_is_named() -> None:
    peer = [{"user": "nobody-of-that-name", "account": "shop", "senders": ["@shop.example"]}]
    with pytest.raises(SettingsError, match="there is no user 'nobody-of-that-name' here; create it"):
        Known(ListenerSettings(name="local", address="unix:/run/s", peer=peer), [], everybody)
