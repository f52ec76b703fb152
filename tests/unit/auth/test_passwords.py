"""Password hashing and the bounded, remembering verifier."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.auth.passwords import (
    LONGEST_PASSWORD,
    Cost,
    PasswordVerifier,
    Recipe,
    derive,
    generate_password,
    hash_password,
    parse_hash,
    password_problem,
    prepare_password,
)
from relay.mail.errors import AuthBusyError

CHEAP = Cost(memory=8, passes=1, lanes=1)


@dataclass
class ManualClock:
    """Time that moves when a test says so."""

    time: float = 1000.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time


@dataclass
class Counting:
    """The real derivation, counted."""

    calls: list[Recipe] = field(default_factory=list)

    def __call__(self, recipe, secret):
        self.calls.append(recipe)
        return derive(recipe, secret)


@dataclass
class Gate:
    """The real derivation behind a gate that the test opens."""

    opened: threading.Event = field(default_factory=threading.Event)
    calls: int = 0

    def __call__(self, recipe, secret):
        self.calls += 1
        assert self.opened.wait(10)
        return derive(recipe, secret)


@contextmanager
def verifier(derivation: Callable = derive, clock: ManualClock | None = None, **options):
    one = PasswordVerifier(clock or ManualClock(), cost=CHEAP, derive=derivation, **options)
    try:
        yield one
    finally:
        one.close()


def hashed(password: str, **options) -> str:
    return hash_password(password, cost=CHEAP, **options)


def test_default_hash_is_argon2id_at_19_mib_two_passes_one_lane():
    """The stored string names the cost that OWASP asks for."""
    assert hash_password("correct horse").startswith("$argon2id$v=19$m=19456,t=2,p=1$")


def test_hash_agrees_with_the_library_own_phc_verifier():
    """Our PHC string is the standard one: cryptography's own verifier takes it."""
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

    Argon2id.verify_phc_encoded(b"correct horse", hashed("correct horse"))


@pytest.mark.parametrize(
    "phc",
    [
        "",
        "plain",
        "$argon2i$v=19$m=8,t=1,p=1$c2FsdHNhbHRzYWx0$" + "A" * 43,
        "$argon2id$v=16$m=8,t=1,p=1$c2FsdHNhbHRzYWx0$" + "A" * 43,
        "$argon2id$v=19$m=9999999,t=1,p=1$c2FsdHNhbHRzYWx0$" + "A" * 43,
        "$argon2id$v=19$m=8,t=0,p=1$c2FsdHNhbHRzYWx0$" + "A" * 43,
        "$argon2id$v=19$m=8,t=1,p=2$c2FsdHNhbHRzYWx0$" + "A" * 43,
        pytest.param(hashed("x" * 8) + "\n", id="a line end after it"),
    ],
)
def test_insane_stored_hash_is_refused_without_being_quoted(phc):
    """A damaged hash is an error that shows no part of it, and never gigabytes of memory."""
    with pytest.raises(ValueError, match=r"^stored hash") as caught:
        parse_hash(phc)
    assert not phc or phc not in str(caught.value)


@pytest.mark.parametrize(
    ("password", "expected"),
    [
        ("", None),
        ("a" * LONGEST_PASSWORD, b"a" * LONGEST_PASSWORD),
        ("a" * (LONGEST_PASSWORD + 1), None),
        ("ü" * LONGEST_PASSWORD, None),
        ("\udc80", None),
        ("Cafe\u0301", "Café".encode()),
        ("a\u00a0b\u3000c", b"a b c"),
        (" Case and spaces stay ", b" Case and spaces stay "),
        ("ﬁ", "ﬁ".encode()),
    ],
)
def test_preparation_is_nfc_and_plain_spaces_only(password, expected):
    """RFC 8265 §4.2.2: one form for equal text, nothing folded beyond that (no NFKC, no case)."""
    assert prepare_password(password) == expected


@given(st.text(max_size=60))
def test_preparation_is_stable_and_never_raises(text):
    """Preparing twice changes nothing, whatever the text."""
    once = prepare_password(text)
    assert once is None or prepare_password(once.decode()) == once


@pytest.mark.parametrize("password", ["short", "with\ttab-inside", "line\nfeed-inside", "x" * 2000])
def test_operator_password_is_refused_with_a_reason(password):
    """A chosen password must be one that clients can send."""
    assert password_problem(password)


def test_generated_passwords_have_138_bits_of_distinct_looking_characters():
    """Letters and digits only, none of 0 O o 1 l I i, and never twice the same."""
    passwords = {generate_password() for _ in range(200)}
    assert len(passwords) == 200
    assert all(len(one) == 24 and not set(one) & set("0Oo1lIi") and one.isalnum() for one in passwords)
    assert not any(password_problem(one) for one in passwords)


def test_right_and_wrong_passwords_and_both_unicode_forms():
    """Only the password itself fits, in whichever normal form the client sends it."""

    async def run():
        with verifier() as passwords:
            stored = (hashed("Caf\u00e9 au lait"),)
            assert await passwords.verify("u", "Cafe\u0301 au lait", stored)
            assert not await passwords.verify("u", "Cafe au lait", stored)
            assert not await passwords.verify("u", "", stored)
            assert not await passwords.verify("u", "café au lait", stored)

    asyncio.run(run())


def test_unknown_user_costs_exactly_one_derivation_like_a_wrong_password():
    """Attackers measure it: the work is counted and must be equal, cost and salt length included."""

    async def run():
        work = {}
        for name, stored in {
            "known": (hashed("right password"),),
            "in grace": (new := hashed("right password"), hashed("older password", beside=new)),
            "unknown": (),
        }.items():
            count = Counting()
            with verifier(count) as passwords:
                assert not await passwords.verify("someone", "wrong password", stored)
            work[name] = [(recipe.cost, len(recipe.salt), recipe.length) for recipe in count.calls]
        return work

    work = asyncio.run(run())
    assert work["known"] == work["unknown"] == work["in grace"] == [(CHEAP, 16, 32)]


def test_spellings_of_a_user_name_share_no_answer():
    """A known name in two spellings must cost what an unknown one costs in two spellings."""

    async def run(stored):
        count = Counting()
        with verifier(count) as passwords:
            await passwords.verify("bob", "wrong password", stored)
            await passwords.verify("BOB", "wrong password", stored)
            await passwords.verify("bob@acme.example", "wrong password", stored)
        return len(count.calls)

    assert asyncio.run(run((hashed("right password"),))) == asyncio.run(run(())) == 3


def test_no_password_opens_an_unknown_user_even_with_a_predictable_dummy():
    """The dummy digest cannot be hit: the answer for a user without hashes is No by construction."""

    async def run():
        zeros = lambda recipe, secret: bytes(recipe.length)  # noqa: E731
        with verifier(zeros, random_bytes=bytes) as passwords:
            assert not await passwords.verify("nobody", "any password", ())

    asyncio.run(run())


def test_right_password_is_derived_once_until_the_memory_ages():
    """Within `remember` seconds the loop answers alone; after them the hash is asked again."""

    async def run():
        clock, count = ManualClock(), Counting()
        stored = (hashed("right password"),)
        with verifier(count, clock, remember=600) as passwords:
            for _ in range(5):
                assert await passwords.verify("u", "right password", stored)
            assert len(count.calls) == 1
            clock.time += 599.9
            assert await passwords.verify("u", "right password", stored)
            assert len(count.calls) == 1
            clock.time += 0.2
            assert await passwords.verify("u", "right password", stored)
            assert len(count.calls) == 2

    asyncio.run(run())


def test_memory_ends_when_the_stored_hash_changes():
    """After a rotation or disabling the old password is refused at once, however fresh its memory."""

    async def run():
        old, new = hashed("old password"), hashed("new password")
        with verifier() as passwords:
            assert await passwords.verify("u", "old password", (old,))
            assert not await passwords.verify("u", "old password", (new,))
            assert not await passwords.verify("u", "old password", ())
            assert await passwords.verify("u", "old password", (new, old))

    asyncio.run(run())


def test_memory_is_per_user_name():
    """The same password of another user is another question."""

    async def run():
        stored = (hashed("same password"),)
        with verifier() as passwords:
            assert await passwords.verify("a", "same password", stored)
            assert not await passwords.verify("b", "same password", (hashed("other password"),))
            # Put one after the other these two are the same octets.
            stored = (hashed("c" * 8),)
            assert await passwords.verify("ab", "c" * 8, stored)
            assert not await passwords.verify("abc", "c" * 7, stored)

    asyncio.run(run())


def test_a_repeated_wrong_password_is_derived_once_a_minute():
    """Clients left behind by a rotation cannot keep the executor busy."""

    async def run():
        clock, count = ManualClock(), Counting()
        stored = (hashed("new password"),)
        with verifier(count, clock, remember_wrong=60) as passwords:
            for _ in range(50):
                assert not await passwords.verify("printer", "old password", stored)
            assert len(count.calls) == 1
            clock.time += 61
            assert not await passwords.verify("printer", "old password", stored)
            assert len(count.calls) == 2
            # The operator sets it back to what the printer sends: that counts at once.
            assert await passwords.verify("printer", "old password", (hashed("old password"),))

    asyncio.run(run())


def test_a_flood_of_guesses_does_not_push_right_passwords_out():
    """Right and wrong answers are remembered apart, both bounded."""

    async def run():
        count = Counting()
        stored = (hashed("right password"),)
        with verifier(count, cache_size=20) as passwords:
            assert await passwords.verify("u", "right password", stored)
            for guess in range(60):
                assert not await passwords.verify("u", f"guess number {guess}", stored)
            before = len(count.calls)
            assert await passwords.verify("u", "right password", stored)
            assert len(count.calls) == before
            assert len(passwords._wrong._entries) <= 2

    asyncio.run(run())


def test_equal_questions_at_the_same_time_share_one_derivation():
    """Fifty connections of one client that reconnects cost one hash."""

    async def run():
        gate = Gate()
        stored = (hashed("right password"),)
        with verifier(gate) as passwords:
            tasks = [asyncio.create_task(passwords.verify("u", "right password", stored)) for _ in range(50)]
            await asyncio.sleep(0)
            gate.opened.set()
            assert await asyncio.gather(*tasks) == [stored[0]] * 50
            assert gate.calls == 1

    asyncio.run(run())


def test_beyond_the_queue_the_answer_is_busy_and_remembered_users_still_come_in():
    """A brute-force flood is bounded: AuthBusyError beyond the cap, no derivation for those proved before."""

    async def run():
        gate = Gate()
        stored = (hashed("right password"),)
        gate.opened.set()
        with verifier(gate, queue=4) as passwords:
            assert await passwords.verify("regular", "right password", stored)
            gate.opened.clear()
            flood = [asyncio.create_task(passwords.verify(f"u{n}", "guess number", ())) for n in range(4)]
            await asyncio.sleep(0)
            with pytest.raises(AuthBusyError):
                await passwords.verify("one more", "guess number", ())
            assert await passwords.verify("regular", "right password", stored)
            gate.opened.set()
            assert await asyncio.gather(*flood) == [None] * 4
            assert not await passwords.verify("one more", "guess number", ())

    asyncio.run(run())


def test_a_client_that_hangs_up_does_not_take_the_answer_from_others():
    """Cancelling one waiter leaves the shared derivation and its other waiters alone."""

    async def run():
        gate = Gate()
        stored = (hashed("right password"),)
        with verifier(gate) as passwords:
            first = asyncio.create_task(passwords.verify("u", "right password", stored))
            second = asyncio.create_task(passwords.verify("u", "right password", stored))
            await asyncio.sleep(0)
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            gate.opened.set()
            assert await second
            assert not passwords._flights

    asyncio.run(run())


def test_closing_answers_busy_to_those_who_wait_and_to_those_who_come():
    """Shutdown is temporary news for a client, never a wrong password and never a hang."""

    async def run():
        gate = Gate()
        passwords = PasswordVerifier(ManualClock(), cost=CHEAP, derive=gate)
        running = asyncio.create_task(passwords.verify("a", "some password", ()))
        waiting = asyncio.create_task(passwords.verify("b", "some password", ()))
        await asyncio.sleep(0.01)
        passwords.close()
        with pytest.raises(AuthBusyError):
            await waiting
        with pytest.raises(AuthBusyError):
            await passwords.verify("c", "some password", ())
        gate.opened.set()
        assert await running is None

    asyncio.run(run())


def test_shortage_of_memory_is_busy_and_nothing_is_remembered():
    """MemoryError inside the hash is temporary; the next question derives again."""
    calls = []

    def short_of_memory(recipe, secret):
        calls.append(recipe)
        raise MemoryError

    async def run():
        with verifier(short_of_memory) as passwords:
            for _ in range(2):
                with pytest.raises(AuthBusyError):
                    await passwords.verify("u", "some password", ())

    asyncio.run(run())
    assert len(calls) == 2


def test_a_hash_across_a_cost_change_keeps_its_own_salt():
    """A grace hash of another cost cannot share the salt: both passwords still work."""

    async def run():
        old = hash_password("old password", cost=Cost(memory=16, passes=1))
        new = hashed("new password", beside=old)
        assert parse_hash(new).recipe.salt != parse_hash(old).recipe.salt
        with verifier() as passwords:
            assert await passwords.verify("u", "old password", (new, old))
            assert await passwords.verify("u", "new password", (new, old))

    asyncio.run(run())


@settings(max_examples=30, deadline=None)
@given(password=st.text(min_size=1, max_size=40), other=st.text(min_size=1, max_size=40))
def test_a_hash_fits_its_password_and_no_other(password, other):
    """Two texts fit the same hash only where they are the same after preparation."""

    async def run():
        stored = (hashed(password),)
        with verifier() as passwords:
            assert await passwords.verify("u", password, stored)
            same = prepare_password(password) == prepare_password(other)
            assert await passwords.verify("u", other, stored) == (stored[0] if same else None)

    asyncio.run(run())


def test_the_loop_stays_awake_while_a_hash_is_computed():
    """The derivation runs in the executor's thread, never in the loop's."""
    threads = []

    def notice(recipe, secret):
        threads.append(threading.current_thread())
        return derive(recipe, secret)

    async def run():
        with verifier(notice) as passwords:
            await passwords.verify("u", "some password", ())

    asyncio.run(run())
    assert threads
    assert threading.main_thread() not in threads
