"""Signing keys: `<folder>/<domain>/<selector>.<rsa|ed25519>.pem`, PKCS#8, and which of them sign.

In: the key folder. Out: SigningKey values by domain. Every key of a domain signs, unless a file `active` beside
the keys names the selectors that do (so a new key can wait until DNS shows it). Reads the disk only in
`reload()` and after its own changes. Raises OperatorError; then what was loaded before stays in use.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from relay.mail.errors import OperatorError
from relay.signing.key import ALGORITHMS, Algorithm, SigningKey, new_private_key, parse_private_key
from relay.signing.keyfiles import KeyFolder, Stamp
from relay.signing.names import DOMAIN_LENGTH, checked_domain, checked_selector

DEFAULT_SELECTOR: Final = "relay1"
_ACTIVE: Final = "active"


@dataclass(frozen=True, slots=True)
class _Loaded:
    """One reading of the folder, replaced as a whole."""

    stamps: Mapping[tuple[str, str], Stamp]
    keys: Mapping[str, tuple[SigningKey, ...]]
    signing: Mapping[str, tuple[SigningKey, ...]]


class KeyStore:
    """The keys of one folder. Not for sharing between threads that add keys."""

    def __init__(self, folder: Path) -> None:
        """Raises OperatorError for a key that cannot be read or used."""
        self._folder = KeyFolder(folder)
        self._loaded = _Loaded({}, {}, {})
        self.reload()

    def reload(self) -> bool:
        """Read what is new or changed; True when anything was. One stat a file, no parsing where nothing changed."""
        stamps = self._folder.stamps()
        if stamps == self._loaded.stamps:
            return False
        known = self._known_files(stamps)
        keys: dict[str, list[SigningKey]] = {}
        for domain, name in sorted(stamps):
            if name != _ACTIVE:
                keys.setdefault(domain, []).append(known.get((domain, name)) or self._read_key(domain, name))
        chosen = {domain: self._with_active(domain, found, stamps) for domain, found in keys.items()}
        signing = {domain: tuple(key for key in found if key.active) for domain, found in chosen.items()}
        self._loaded = _Loaded(stamps, chosen, signing)
        return True

    def domains(self) -> tuple[str, ...]:
        """Every domain that has keys, sorted."""
        return tuple(sorted(self._loaded.keys))

    def keys(self, domain: str) -> tuple[SigningKey, ...]:
        """All keys of exactly this domain, RSA first, those in waiting included."""
        return self._loaded.keys.get(domain, ())

    def find(self, domain: str) -> tuple[SigningKey, ...]:
        """The keys that sign for `domain` (A-labels, lower case): its own, else its nearest parent's, else none."""
        signing = self._loaded.signing
        if not signing or len(domain) > DOMAIN_LENGTH:
            return ()
        while domain:
            keys = signing.get(domain)
            if keys:
                return keys
            domain = domain.partition(".")[2]
        return ()

    def add(self, domain: str, selector: str = DEFAULT_SELECTOR) -> tuple[SigningKey, ...]:
        """Make an RSA key under `selector` and an Ed25519 key under `selector` + "e"; what exists is kept.

        Where the domain signs already with other selectors, it goes on doing so: `use` changes over.
        """
        domain = checked_domain(domain)
        wanted: dict[Algorithm, str] = {"rsa": checked_selector(selector), "ed25519": checked_selector(f"{selector}e")}
        self.reload()
        present = self.keys(domain)
        missing = {a: s for a, s in wanted.items() if not any((k.algorithm, k.selector) == (a, s) for k in present)}
        earlier = [key.selector for key in present if key.selector not in wanted.values()]
        if missing and earlier and (domain, _ACTIVE) not in self._loaded.stamps:
            self._write_active(domain, [key.selector for key in present])
        for algorithm, name in missing.items():
            self._folder.write(domain, f"{name}.{algorithm}.pem", new_private_key(algorithm))
        self.reload()
        return self.keys(domain)

    def use(self, domain: str, selectors: Iterable[str]) -> tuple[SigningKey, ...]:
        """Sign with these selectors from now on. Raises OperatorError for one the domain has no key for."""
        domain = checked_domain(domain)
        self.reload()
        wanted = [checked_selector(selector) for selector in selectors]
        known = {key.selector for key in self.keys(domain)}
        for selector in wanted:
            if selector not in known:
                raise OperatorError(f"{domain} has no key {selector!r}; it has: {', '.join(sorted(known)) or 'none'}")
        if not wanted:
            raise OperatorError(f"name at least one selector of {domain} to sign with")
        self._write_active(domain, wanted)
        self.reload()
        return self.keys(domain)

    def _write_active(self, domain: str, selectors: list[str]) -> None:
        text = "".join(f"{selector}\n" for selector in dict.fromkeys(selectors))
        self._folder.write(domain, _ACTIVE, text.encode("ascii"), replace=True)

    def _known_files(self, stamps: Mapping[tuple[str, str], Stamp]) -> dict[tuple[str, str], SigningKey]:
        """Keys whose file has not changed since the last reading."""
        old = self._loaded
        files = {(k.domain, f"{k.selector}.{k.algorithm}.pem"): k for keys in old.keys.values() for k in keys}
        return {file: key for file, key in files.items() if stamps.get(file) == old.stamps.get(file)}

    def _read_key(self, domain: str, name: str) -> SigningKey:
        data = self._folder.read(domain, name)
        try:
            selector, algorithm = _parse_name(domain, name)
            private = parse_private_key(data, algorithm)
        except OperatorError as error:
            raise OperatorError(f"{self._folder.root / domain / name}: {error}") from error
        return SigningKey(domain, selector, algorithm, private)

    def _with_active(
        self, domain: str, keys: list[SigningKey], stamps: Mapping[tuple[str, str], Stamp]
    ) -> tuple[SigningKey, ...]:
        selectors = {key.selector for key in keys}
        if len(selectors) < len(keys):
            raise OperatorError(f"{self._folder.root / domain}: two keys share a selector, DNS cannot; rename one")
        if (domain, _ACTIVE) in stamps:
            selectors &= set(self._folder.read(domain, _ACTIVE).decode("ascii", "replace").split())
            if not selectors:
                raise OperatorError(f"{self._folder.root / domain / _ACTIVE}: names no key of {domain}; remove it")
        ordered = sorted(keys, key=lambda key: (ALGORITHMS.index(key.algorithm), key.selector))
        return tuple(replace(key, active=key.selector in selectors) for key in ordered)


def _parse_name(domain: str, name: str) -> tuple[str, Algorithm]:
    selector, _, kind = name.removesuffix(".pem").rpartition(".")
    algorithm = next((known for known in ALGORITHMS if known == kind), None)
    if algorithm is None or not name.endswith(".pem"):
        raise OperatorError("not a key file; name it <selector>.rsa.pem or <selector>.ed25519.pem")
    if checked_domain(domain) != domain:
        raise OperatorError("the folder is not named in lower-case A-labels; rename it")
    return checked_selector(selector), algorithm
