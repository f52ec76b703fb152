"""The messages of SCRAM: what is refused, what is bound, and any bytes at all."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.session import Login, Session, TlsFacts
from relay.ports import ScramParameters, ScramProved
from relay.smtpd.sasl import Exchange, LastStep, SaslError
from relay.smtpd.sasl_offer import Offer
from relay.smtpd.sasl_scram import ScramClaim, scram

END_POINT = bytes(range(32))
NONCE = base64.b64encode(bytes(18)).decode()
LOGIN = Login("acme", "alice")


class Book:
    """Believes every proof, and remembers what it was over."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.messages: list[bytes] = []

    def offered(self) -> bool:
        return True

    def parameters(self, username: str) -> ScramParameters:
        self.names.append(username)
        return ScramParameters(b"salt", 4096)

    def prove(self, username: str, message: bytes, proof: bytes) -> ScramProved:
        self.messages.append(message)
        return ScramProved(LOGIN, b"signature")


def _b64(text: str | bytes) -> bytes:
    return base64.b64encode(text.encode() if isinstance(text, str) else text)


def run(first: str, final: str, *, plus: bool = False, end_point: bytes = END_POINT, book: Book | None = None):
    exchange = Exchange(scram(book or Book(), end_point, bytes, plus=plus))
    challenge = exchange.begin(_b64(first))
    assert challenge == _b64(f"r=abc{NONCE},s=c2FsdA==,i=4096")
    claim = exchange.respond(_b64(final))
    assert isinstance(claim, ScramClaim)
    return claim


def final(header: str, binding: bytes = b"") -> str:
    return f"c={_b64(header.encode() + binding).decode()},r=abc{NONCE},p={_b64(bytes(32)).decode()}"


def test_names_are_unescaped_and_the_proof_is_over_the_octets_that_came() -> None:
    """RFC 5802 §5.1 and §7; extensions are allowed where the RFC puts them."""
    book = Book()
    claim = run(
        "n,a=b=3Dc,n=a=2Cb=3Dc,r=abc,x=new", f"c=bixhPWI9M0RjLA==,r=abc{NONCE},y=ext,p=AAAA", book=book, end_point=b""
    )

    assert (claim.username, claim.authorize_as, book.names) == ("a,b=c", "b=c", ["a,b=c"])
    assert book.messages == [
        f"n=a=2Cb=3Dc,r=abc,x=new,r=abc{NONCE},s=c2FsdA==,i=4096,c=bixhPWI9M0RjLA==,r=abc{NONCE},y=ext".encode()
    ]
    assert claim.last_words(LOGIN) == b"v=" + _b64("signature")


@pytest.mark.parametrize(
    "first",
    [
        "", "x", "n,n=alice,r=abc", "n,,n=,r=abc", "n,,n=alice,r=", "n,,n=alice,r=a b", "n,,n=al=ice,r=abc",
        "n,,n=alice=2c,r=abc", "n,,m=must,n=alice,r=abc", "n,a=,n=alice,r=abc", "q,,n=alice,r=abc",
        "n,,n=alice,r=abc,m=must",
        "p=,,n=alice,r=abc", "n,,r=abc,n=alice", "n,,n=alice,r=abc,", "n,,n=alice,r=abc\n",
    ],
)  # fmt: skip
def test_a_first_message_that_is_none_is_refused(first: str) -> None:
    with pytest.raises(SaslError):
        Exchange(scram(Book(), b"", bytes, plus=False)).begin(_b64(first) or b"=")


@pytest.mark.parametrize(
    "text",
    [
        "", "c=biws", f"c=biws,r=abc{NONCE}", f"r=abc{NONCE},c=biws,p=AAAA", f"c=biws,r=abc{NONCE},p=AAA",
        f"c=biws,r=abc{NONCE}x,p=AAAA", "c=biws,r=abc,p=AAAA", f"c=b,r=abc{NONCE},p=AAAA",
        f"c=biws,r=abc{NONCE},p=AAAA,", f"c=biws,r=abc{NONCE},p=", f"c=biws,r=abc{NONCE},m=must,p=AAAA",
    ],
)  # fmt: skip
def test_a_final_message_that_is_none_is_refused(text: str) -> None:
    """Another nonce, another order, no proof."""
    with pytest.raises(SaslError):
        run("n,,n=alice,r=abc", text, end_point=b"")


def test_the_channel_is_bound_to_the_certificate() -> None:
    """A login that somebody between passes on names another certificate, and is none."""
    header = "p=tls-server-end-point,,"
    assert run(f"{header}n=alice,r=abc", final(header, END_POINT), plus=True).proved
    for binding in (b"", END_POINT[:-1], bytes(32), END_POINT + b"x"):
        assert run(f"{header}n=alice,r=abc", final(header, binding), plus=True).proved is None
    assert run("n,,n=alice,r=abc", final("n,,")).proved
    assert run("n,,n=alice,r=abc", final("y,,")).proved is None
    assert run("n,,n=alice,r=abc", final("n,,", END_POINT)).proved is None


@pytest.mark.parametrize(
    ("flag", "plus", "end_point", "good"),
    [
        ("n", False, END_POINT, True),
        ("n", False, b"", True),
        ("y", False, b"", True),
        ("y", False, END_POINT, False),
        ("n", True, END_POINT, False),
        ("y", True, END_POINT, False),
        ("p=tls-server-end-point", False, END_POINT, False),
        ("p=tls-exporter", True, END_POINT, False),
        ("p=tls-unique", True, END_POINT, False),
    ],
)
def test_a_list_of_mechanisms_that_was_cut_on_its_way_is_noticed(
    flag: str, plus: bool, end_point: bytes, good: bool
) -> None:
    """RFC 5802 §6: `y` says that the client can bind and heard that we cannot."""
    exchange = Exchange(scram(Book(), end_point, bytes, plus=plus))
    if good:
        assert isinstance(exchange.begin(_b64(f"{flag},,n=alice,r=abc")), bytes)
    else:
        with pytest.raises(SaslError):
            exchange.begin(_b64(f"{flag},,n=alice,r=abc"))


_pieces = st.sampled_from(
    ["n", "y", "p=tls-server-end-point", ",", ",,", "n=alice", "r=abc", "r=abc" + NONCE, "c=biws", "p=AAAA", "=", "m="]
)


@given(st.lists(st.one_of(_pieces, st.text(max_size=5)), max_size=9), st.binary(max_size=60), st.booleans())
def test_any_response_is_read_or_refused(pieces: list[str], octets: bytes, plus: bool) -> None:
    exchange = Exchange(scram(Book(), END_POINT, bytes, plus=plus))
    result: object
    try:
        result = exchange.begin(_b64("".join(pieces).encode("utf-8", "surrogatepass")) or b"=")
        if isinstance(result, bytes):
            result = exchange.respond(_b64(octets) or b"=")
    except SaslError as error:
        result = str(error)

    assert isinstance(result, ScramClaim) or (isinstance(result, str) and result.isascii())


def test_each_exchange_has_a_nonce_of_its_own() -> None:
    offer = Offer(Book())
    session = Session("192.0.2.1", 1, "x", "ESMTP", "test")
    first = _b64("n,,n=alice,r=abc")
    challenges = {offer.exchange(session, "SCRAM-SHA-256").begin(first) for _ in range(3)}

    assert len(challenges) == 3


def test_plus_is_offered_inside_a_tls_that_can_be_bound() -> None:
    """Beside the plain one (RFC 5802 §6), and before it, for a client takes the first it can."""
    tls = TlsFacts("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256)
    session = Session("192.0.2.1", 1, "x", "ESMTP", "test")
    bound = Session("192.0.2.1", 1, "x", "ESMTP", "test", TlsFacts("TLSv1.3", "x", 256, END_POINT))

    assert Offer().mechanisms(bound) == ("PLAIN", "LOGIN")
    assert Offer(Book()).mechanisms(session) == ("PLAIN", "LOGIN", "SCRAM-SHA-256")
    assert Offer(Book()).mechanisms(Session("192.0.2.1", 1, "x", "ESMTP", "test", tls))[-1] == "SCRAM-SHA-256"
    assert Offer(Book(), binds=False).mechanisms(bound)[2:] == ("SCRAM-SHA-256",)
    assert Offer(Book()).mechanisms(bound)[2:] == ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256")


def test_after_the_last_word_only_an_empty_response_lets_in() -> None:
    assert LastStep(LOGIN).respond(b"") == LOGIN
    assert LastStep(LOGIN).respond(b"=") == LOGIN
    with pytest.raises(SaslError):
        LastStep(LOGIN).respond(b"AAAA")
    with pytest.raises(SaslError):
        LastStep(LOGIN).respond(b"QUIT")


def test_a_proof_shows_in_no_repr() -> None:
    assert "signature" not in repr(ScramClaim("alice", "", ScramProved(LOGIN, b"signature")))
