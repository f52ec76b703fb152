"""SCRAM verifiers and proofs: the RFC's own example, other people's client, and what must not be told apart."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import dataclass, field, replace

import pytest
from scramp import ScramClient
from scramp.core import ScramException

from relay.auth.saslprep import saslprep
from relay.auth.scram import ScramBook, derived_verifier, scram_salt, scram_verifier
from relay.auth.scram_keeper import ScramKeeper
from relay.mail.errors import StoreError
from relay.mail.session import Login, SenderRights
from relay.ports import StoredCredential
from relay.smtpd.sasl import Exchange
from relay.smtpd.sasl_scram import ScramClaim, scram

SECRET = bytes(range(32))
FEW = 4096
RIGHTS = SenderRights()


@dataclass
class ManualClock:
    time: float = 1000.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time


@dataclass
class Source:
    credentials: dict[str, StoredCredential] = field(default_factory=dict)

    def find_credential(self, login: str) -> StoredCredential | None:
        return self.credentials.get(login.lower())

    def scram_kinds(self) -> frozenset[str]:
        return frozenset(one.scram.partition(":")[0] for one in self.credentials.values())

    def scram_secret(self) -> bytes:
        return SECRET


def credential(username: str, password: str = "", iterations: int = FEW, **more) -> StoredCredential:
    verifier = scram_verifier(password, username, SECRET, iterations) if password else None
    return StoredCredential(username, "acme", RIGHTS, "argon", scram=verifier or "", **more)


def book(*credentials: StoredCredential, clock: ManualClock | None = None, **options) -> ScramBook:
    source = Source({one.username: one for one in credentials})
    return ScramBook(source, clock or ManualClock(), FEW, **options)


def converse(verifiers: ScramBook, username: str, password: str, binding: bytes = b"") -> tuple[ScramClaim, str]:
    """scramp on one side; what it got to see of the salt, too."""
    client = ScramClient(
        ["SCRAM-SHA-256-PLUS" if binding else "SCRAM-SHA-256"],
        username,
        password,
        channel_binding=("tls-server-end-point", binding) if binding else None,
    )
    exchange = Exchange(scram(verifiers, binding, bytes, plus=bool(binding)))
    challenge = exchange.begin(base64.b64encode(client.get_client_first().encode()))
    assert isinstance(challenge, bytes)
    server_first = base64.b64decode(challenge).decode()
    client.set_server_first(server_first)
    claim = exchange.respond(base64.b64encode(client.get_client_final().encode()))
    assert isinstance(claim, ScramClaim)
    if claim.proved is not None:
        client.set_server_final(claim.last_words(claim.proved.login).decode())
    return claim, server_first.partition(",s=")[2]


def test_the_example_of_rfc_7677() -> None:
    """§3: user, pencil."""
    verifier = derived_verifier(b"pencil", base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ=="), 4096)
    message = (
        b"n=user,r=rOprNGfwEbeRWgbNEkqO,"
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,"
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    )
    proof = base64.b64decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
    verifiers = book(StoredCredential("user", "acme", RIGHTS, "argon", scram=verifier))
    # Its salt is not one of ours; the keys are.
    assert verifiers.prove("user", message, proof) is None
    salt = base64.b64encode(scram_salt(SECRET, "user")).decode()
    ours = StoredCredential("user", "acme", RIGHTS, "argon", scram=verifier.replace("W22ZaJ0SNY7soEsUEjb6gQ==", salt))
    proved = book(ours).prove("user", message, proof)

    assert proved is not None
    assert base64.b64encode(proved.signature) == b"6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


@pytest.mark.parametrize("binding", [b"", bytes(32)])
@pytest.mark.parametrize("password", ["right password", "I\u00adX", "\u2168 gr\u00fc\u00dfe"])
def test_another_implementation_logs_in_and_believes_the_server(password: str, binding: bytes) -> None:
    """scramp checks our signature; soft hyphens and Roman numerals are prepared alike on both sides."""
    verifiers = book(credential("app1", password))
    claim, _ = converse(verifiers, "app1", password, binding)

    assert claim.proved is not None
    assert claim.proved.login == Login("acme", "app1", RIGHTS)
    assert converse(verifiers, "app1", password + "x", binding)[0].proved is None


def test_a_server_that_does_not_know_the_password_is_not_believed() -> None:
    """The proof goes both ways, so scramp would have noticed a wrong signature above."""
    client = ScramClient(["SCRAM-SHA-256"], "app1", "right password")
    exchange = Exchange(scram(book(credential("app1", "right password")), b"", bytes, plus=False))
    challenge = exchange.begin(base64.b64encode(client.get_client_first().encode()))
    assert isinstance(challenge, bytes)
    client.set_server_first(base64.b64decode(challenge).decode())
    client.get_client_final()

    with pytest.raises(ScramException):
        client.set_server_final("v=" + base64.b64encode(bytes(32)).decode())


def test_every_name_has_a_salt_that_stays_and_tells_nothing() -> None:
    """Known, unknown, without a verifier, in another case or with a host: the same kind of answer, for good."""
    verifiers = book(credential("app1", "right password"), credential("app2"))
    others = book()
    for name in ("app1", "app2", "nobody", "n\u00f6body", "app1@acme.example"):
        assert converse(verifiers, name, "any")[1] == converse(others, name, "any")[1]
    for one, other in (("app1", "APP1"), ("app1", "app1@acme.example"), ("nobody", "nobody@acme.example")):
        assert verifiers.parameters(one) == verifiers.parameters(other)
    assert len({verifiers.parameters(name).salt for name in ("app1", "app2", "nobody")}) == 3


def test_an_unknown_name_costs_what_a_known_one_does(monkeypatch) -> None:
    """Counted in HMACs, not seconds: two keys are tried for everybody, and one answer more for who proved it."""
    from relay.auth import scram as module

    calls: list[bytes] = []
    real = module._hmac
    monkeypatch.setattr(module, "_hmac", lambda key, message: calls.append(key) or real(key, message))
    grace = replace(credential("app3", "new"), old_scram=credential("app3", "old").scram, old_hash_until=2000.0)
    verifiers = book(credential("app1", "right password"), credential("app2"), grace)
    counts = set()
    for name in ("app1", "app2", "app3", "nobody"):
        calls.clear()
        assert verifiers.prove(name, b"message", bytes(32)) is None
        counts.add(len(calls))

    assert len(counts) == 1


def test_both_passwords_work_until_the_grace_ends() -> None:
    """One salt for both, so one challenge fits both."""
    clock = ManualClock()
    old = credential("app1", "old password")
    new = replace(credential("app1", "new password"), old_scram=old.scram, old_hash_until=clock.time + 100)
    verifiers = book(new, clock=clock)
    for password in ("old password", "new password"):
        assert converse(verifiers, "app1", password)[0].proved
    clock.time += 100
    assert converse(verifiers, "app1", "old password")[0].proved is None
    assert converse(verifiers, "app1", "new password")[0].proved


@pytest.mark.parametrize("proof", [b"", b"x", bytes(31), bytes(33), bytes(64)])
def test_a_proof_of_another_length_is_none(proof: bytes) -> None:
    verifiers = book(credential("app1", "right password"))

    assert verifiers.prove("app1", b"message", proof) is None
    assert verifiers.prove("nobody", b"message", proof) is None


def test_it_is_offered_where_all_or_some_have_a_verifier_that_counts() -> None:
    """A client that prefers SCRAM must not fail by a password that is right."""
    one, none, other = credential("app1", "right password"), credential("app2"), credential("app3", "right", 5000)
    for credentials, everybody, somebody in (
        ((), False, False),
        ((one,), True, True),
        ((one, none), False, True),
        ((one, other), False, True),
        ((other,), False, False),
        ((none,), False, False),
    ):
        assert book(*credentials).offered() is everybody
        assert book(*credentials, offer="some").offered() is somebody
    assert converse(book(other), "app3", "right")[0].proved is None


@pytest.mark.parametrize(
    ("text", "prepared"),
    [
        ("I\u00adX", b"IX"),
        ("user", b"user"),
        ("\u00aa", b"a"),
        ("\u2168", b"IX"),
        ("\u0007", None),
        ("\u0627\u0031", None),
        ("\u0627\u0031\u0628", "\u0627\u0031\u0628".encode()),
        ("a\u00a0b", b"a b"),
        ("", None),
        ("\u00ad", None),
        ("\U0001fae0", "\U0001fae0".encode()),
        ("\ud800", None),
    ],
)
def test_saslprep(text: str, prepared: bytes | None) -> None:
    """RFC 4013 §3, and what Unicode 3.2 did not know."""
    assert saslprep(text) == prepared


def test_a_password_that_was_proved_gets_its_verifier_once() -> None:
    """Not where it has one, not while SCRAM is off, not one for a password SCRAM cannot take."""
    stored: list[tuple[str, str, str]] = []
    failures: list[Exception] = []

    def store(*facts: str) -> None:
        stored.append(facts)  # type: ignore[arg-type]
        if len(stored) > 1:
            raise StoreError("disk full")

    async def run() -> None:
        clock = ManualClock()
        keeper = ScramKeeper(store, clock, failures.append)
        plain, has = credential("app1"), credential("app2", "right password")
        keeper.learn(plain, "right password")
        await keeper.settled()
        assert not stored
        keeper.book = book(plain, has)
        keeper.learn(has, "right password")
        keeper.learn(plain, "right password")
        keeper.learn(credential("app3"), "another at the same time")
        await keeper.settled()
        assert stored == [("app1", "argon", scram_verifier("right password", "app1", SECRET, FEW))]
        keeper.learn(credential("app3"), "the disk is full")
        await keeper.settled()
        assert [str(error) for error in failures] == ["disk full"]
        keeper.learn(credential("app3"), "within the pause")
        await keeper.settled()
        assert len(stored) == 2
        clock.time += 61
        keeper.learn(credential("app3"), "bell \u0007")
        await keeper.settled()
        assert len(stored) == 2

    asyncio.run(run())
