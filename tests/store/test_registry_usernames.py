"""User names of the form `identifier@account.domain`: which credential a login means."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.mail.errors import StoreError
from relay.mail.session import SenderRights
from relay.store.registry import REGISTRY_FILE, Registry
from relay.store.registry_admin import RegistryAdmin
from relay.store.usernames import fold_login, named_account

HASH = "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHRzYWx0$first"


@dataclass
class StoppedClock:
    """A time that never moves."""

    def now(self) -> float:
        return 1000.0

    def monotonic(self) -> float:
        return 1000.0


class Box:
    """A registry in a folder, and what its two sides say."""

    def __init__(self, folder: Path) -> None:
        self.admin = RegistryAdmin.open(folder, StoppedClock())
        self.registry = Registry(folder / REGISTRY_FILE)

    def add(self, username: str, account: str | None) -> str | None:
        """The account it went to, or None when refused."""
        try:
            return self.admin.add_credential(username, account, HASH, SenderRights()).account
        except StoreError:
            return None

    def login(self, name: str) -> tuple[str, str] | None:
        self.registry.refresh()
        found = self.registry.find_credential(name)
        return found and (found.username, found.account)

    def close(self) -> None:
        self.admin.close()
        self.registry.close()


@pytest.fixture
def box(tmp_path):
    one = Box(tmp_path)
    yield one
    one.close()


@pytest.mark.parametrize(
    ("login", "expected"),
    [
        ("app1", ("app1", "acme")),
        ("APP1", ("app1", "acme")),
        ("app1@acme.sendpost.io", ("app1", "acme")),
        ("App1@Acme.SendPost.IO", ("app1", "acme")),
        ("app1@acme.localhost", ("app1", "acme")),
        ("app1@acme", None),
        ("app1@acme.", None),
        ("app1@beta.sendpost.io", None),
        ("app1@smtp.acme.sendpost.io", None),
        ("app1@nobody.sendpost.io", None),
        ("app1@acmee.sendpost.io", None),
        ("app2@beta.sendpost.io", ("app2", "beta")),
        ("full@acme.sendpost.io", ("full@acme.sendpost.io", "acme")),
        ("full@acme.other.example", None),
        ("full", None),
        ("a@app1@acme.sendpost.io", None),
        ("app1@app1@acme.sendpost.io", None),
        ("x@example.com", ("x@example.com", "default")),
        ("x", None),
        ("@acme.sendpost.io", None),
        ("", None),
        ("app1@acme.sendpost.io" + "x" * 300, None),
        ("\u212aey@acme.sendpost.io", None),
    ],
)
def test_which_credential_a_login_means(box, login, expected):
    """Exact name first; else the identifier, and only in the account the login names."""
    assert box.add("app1", "acme") == "acme"
    assert box.add("app2", "beta") == "beta"
    assert box.add("key", "acme") == "acme"
    assert box.add("full@acme.sendpost.io", None) == "acme"
    assert box.add("x@example.com", None) == "default"
    assert box.login(login) == expected


def test_a_disabled_exact_name_does_not_fall_through_to_another_credential(box):
    """Disabling closes that name, also where the identifier alone exists in the account."""
    box.add("app1", "acme")
    box.add("app1@acme.sendpost.io", "acme")
    box.admin.set_credential_disabled("app1@acme.sendpost.io", True)
    assert box.login("app1@acme.sendpost.io") is None
    assert box.login("app1") == ("app1", "acme")


def test_a_name_that_speaks_of_another_account_is_refused_from_both_sides(box):
    """Neither a squatting user name nor an account that would capture an existing one can be created."""
    assert box.add("app1", "acme") == "acme"
    assert box.add("app1@acme.sendpost.io", "evil") is None
    assert box.add("bob@mail.example.com", None) == "default"
    with pytest.raises(StoreError, match="bob@mail"):
        box.admin.add_account("mail")
    assert box.add("carol", "mail") is None
    assert {one.id for one in box.admin.accounts()} == {"acme", "default"}


def test_the_longest_account_id_is_meant(box):
    """Ids may hold dots: `acme` and `acme.eu` keep apart."""
    assert box.add("app1", "acme") == "acme"
    assert box.add("app2", "acme.eu") == "acme.eu"
    assert box.login("app1@acme.eu.example.com") is None
    assert box.login("app2@acme.eu.example.com") == ("app2", "acme.eu")
    assert box.login("app2@acme.example.com") is None
    assert box.login("app1@acme.example.com") == ("app1", "acme")


def test_a_disabled_account_still_owns_its_name(box):
    """Disabling `acme.eu` does not hand its log-ins to `acme`."""
    box.add("app1", "acme")
    box.add("app2", "acme.eu")
    box.admin.set_account_disabled("acme.eu", True)
    assert box.login("app1@acme.eu.example.com") is None
    assert box.login("app2@acme.eu.example.com") is None


IDENTIFIERS = st.sampled_from(["a", "b", "app"])
ACCOUNTS = st.sampled_from(["a", "b", "a.b", "b.a", "default"])
HOSTS = st.lists(st.sampled_from(["a", "b", "x"]), min_size=1, max_size=4).map(".".join)
USERNAMES = IDENTIFIERS | st.builds("{}@{}".format, IDENTIFIERS, HOSTS)


@settings(max_examples=60, deadline=None)
@given(
    additions=st.lists(st.tuples(USERNAMES, ACCOUNTS | st.none()), max_size=8), logins=st.lists(USERNAMES, max_size=12)
)
def test_no_login_crosses_accounts(additions, logins):
    """Whatever is added in whatever order: a login that names an existing account reaches that account or nobody."""
    with TemporaryDirectory() as folder:
        box = Box(Path(folder))
        try:
            stored = {}
            for username, account in additions:
                got = box.add(username, account)
                if got is not None:
                    stored[username] = got
            accounts = {one.id for one in box.admin.accounts()}
            for login in (*logins, *stored):
                found = box.login(login)
                named = named_account(login, accounts)
                if found is not None:
                    assert stored[found[0]] == found[1]
                    assert named in (None, found[1])
                    assert found[0] in (login, login.partition("@")[0])
                    # Only an exact name or an account's own name leads anywhere.
                    assert found[0] == login or named == found[1]
            for username, account in stored.items():
                assert box.login(username) == (username, account)
        finally:
            box.close()


@given(st.text(max_size=300))
def test_any_login_text_is_folded_without_error_and_idempotently(text):
    """What cannot be a name becomes the empty one, which nobody has."""
    folded = fold_login(text)
    assert fold_login(folded) == folded
    assert folded == "" or (folded.isascii() and len(folded) == len(text))


@given(st.text(alphabet="ab.@", max_size=40), st.sets(st.text(alphabet="ab.", min_size=1, max_size=6)))
def test_named_account_is_a_proper_dotted_beginning_of_the_host(login, accounts):
    """The account is followed by a dot and more, and no longer one fits."""
    host = login.partition("@")[2]
    fitting = [one for one in accounts if host.startswith(one + ".") and not host.endswith(".")]
    assert named_account(login, accounts) == max(fitting, key=len, default=None)
