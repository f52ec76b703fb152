"""CredentialAuthenticator over a source in memory."""

import asyncio
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from relay.auth.credentials import CredentialAuthenticator
from relay.auth.passwords import Cost, PasswordVerifier, derive, hash_password
from relay.mail.session import Login, SenderRights
from relay.ports import StoredCredential

CHEAP = Cost(memory=8, passes=1, lanes=1)
RIGHTS = SenderRights(("bob@example.com",), ())


@dataclass
class ManualClock:
    """Time that moves when a test says so."""

    time: float = 1000.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time


@dataclass
class Source:
    """Credentials by login name."""

    credentials: dict[str, StoredCredential] = field(default_factory=dict)

    def find_credential(self, login: str) -> StoredCredential | None:
        return self.credentials.get(login)


def credential(password: str, **more) -> StoredCredential:
    return StoredCredential("app1", "acme", RIGHTS, hash_password(password, cost=CHEAP), **more)


@contextmanager
def authenticator(source: Source, clock: ManualClock, derivation=derive):
    passwords = PasswordVerifier(clock, cost=CHEAP, derive=derivation)
    try:
        yield CredentialAuthenticator(source, passwords, clock)
    finally:
        passwords.close()


def test_login_carries_account_stored_name_and_rights_whatever_form_came():
    """Logs, limits and rights see one name for one credential."""

    async def run():
        one = credential("right password")
        source, clock = Source({"app1": one, "app1@acme.example.net": one}), ManualClock()
        with authenticator(source, clock) as auth:
            for name in source.credentials:
                assert await auth.verify(name, "right password") == Login("acme", "app1", RIGHTS)
            assert await auth.verify("app1", "wrong password") is None
            assert await auth.verify("app2", "right password") is None

    asyncio.run(run())


def test_forms_of_a_known_name_cost_what_forms_of_an_unknown_one_cost():
    """Spelling and domain must not tell by speed that two names mean one credential."""

    async def run(source):
        calls = []

        def count(recipe, secret):
            calls.append(recipe)
            return derive(recipe, secret)

        with authenticator(source, ManualClock(), count) as auth:
            for name in ("app1", "APP1", "app1@acme.a.example", "app1@acme.b.example", "app1"):
                assert await auth.verify(name, "wrong password") is None
        return len(calls)

    one = credential("right password")
    known = Source(dict.fromkeys(("app1", "APP1", "app1@acme.a.example", "app1@acme.b.example"), one))
    assert asyncio.run(run(known)) == asyncio.run(run(Source())) == 4


def test_old_password_counts_until_its_grace_ends():
    """The clock decides, not the memory of an earlier success."""

    async def run():
        clock = ManualClock()
        old = credential("old password")
        new = replace(credential("new password"), old_hash=old.password_hash, old_hash_until=clock.time + 100)
        with authenticator(Source({"app1": new}), clock) as auth:
            assert await auth.verify("app1", "old password")
            assert await auth.verify("app1", "new password")
            clock.time += 100
            assert await auth.verify("app1", "old password") is None
            assert await auth.verify("app1", "new password")

    asyncio.run(run())


def test_disabled_while_its_password_was_checked_does_not_get_in():
    """The registry may change during the 30 ms of a derivation."""

    async def run():
        source, clock = Source({"app1": credential("right password")}), ManualClock()

        def disable_meanwhile(recipe, secret):
            source.credentials.clear()
            return derive(recipe, secret)

        with authenticator(source, clock, disable_meanwhile) as auth:
            assert await auth.verify("app1", "right password") is None

    asyncio.run(run())


def test_changed_rights_while_its_password_was_checked_count():
    """A harmless change in between is taken over instead of refusing a right password."""

    async def run():
        source, clock = Source({"app1": credential("right password")}), ManualClock()
        narrowed = SenderRights((), ("example.org",))

        def narrow_meanwhile(recipe, secret):
            source.credentials["app1"] = replace(source.credentials["app1"], rights=narrowed)
            return derive(recipe, secret)

        with authenticator(source, clock, narrow_meanwhile) as auth:
            assert await auth.verify("app1", "right password") == Login("acme", "app1", narrowed)

    asyncio.run(run())


def test_hashes_never_show_in_a_repr():
    """What lands in a traceback or a log line holds no hash."""
    one = credential("right password", old_hash="$argon2id$old", old_hash_until=5.0)
    assert "argon2id" not in repr(one)


def test_an_earlier_login_is_valid_until_its_credential_is_disabled_or_may_do_something_else():
    """Sessions stay open for an hour; what the operator took away must not."""

    async def run():
        source, clock = Source({"app1": credential("right password")}), ManualClock()
        with authenticator(source, clock) as auth:
            login = await auth.verify("app1", "right password")
            assert auth.still_valid(login)
            source.credentials["app1"] = credential("another password")
            assert auth.still_valid(login), "a rotation ends no session"
            source.credentials["app1"] = replace(credential("right password"), rights=SenderRights())
            assert not auth.still_valid(login)
            del source.credentials["app1"]
            assert not auth.still_valid(login)

    asyncio.run(run())


def test_a_password_that_was_right_is_learnt_and_no_other():
    """The one in force: not a wrong one, not the one that is about to end."""

    async def run():
        clock, learnt = ManualClock(), []
        old = credential("old password")
        new = replace(credential("new password"), old_hash=old.password_hash, old_hash_until=clock.time + 100)
        passwords = PasswordVerifier(clock, cost=CHEAP)
        auth = CredentialAuthenticator(Source({"app1": new}), passwords, clock, lambda *facts: learnt.append(facts))
        for password in ("wrong password", "old password", "new password"):
            await auth.verify("app1", password)
        passwords.close()
        assert learnt == [(new, "new password")]

    asyncio.run(run())
