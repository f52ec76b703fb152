"""Verify: whether the DKIM signatures of a message hold, by dkimpy, which shares no line with our signer.

In: a message and the key records by name. Out: one Verdict a signature. Never raises for a message. For an operator's
hand only: dkimpy takes quadratic time for hostile white space, so no mail of strangers goes through it by itself.
Source: RFC 6376 §6.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import dkim

from relay.mail.message import header_block, signature_tags
from relay.mail.reply import printable

_LONGEST: Final = 26_214_400


@dataclass(frozen=True, slots=True)
class Verdict:
    """`holds` is None where it was not checked; `reason` says why it does not hold, or was not checked."""

    domain: str
    selector: str
    algorithm: str
    holds: bool | None
    reason: str = ""


def key_names(content: bytes) -> list[str]:
    """Where DNS holds the keys of the signatures: `selector._domainkey.domain`, each once."""
    return list(dict.fromkeys(_key_name(tags) for tags in signature_tags(header_block(content))))


def verify(content: bytes, keys: Mapping[str, str]) -> list[Verdict]:
    """`keys` holds TXT records by name; a name that is not in it has none."""
    return [_verdict(content, index, tags, keys) for index, tags in enumerate(signature_tags(header_block(content)))]


def _key_name(tags: Mapping[str, str]) -> str:
    return f"{tags.get('s', '')}._domainkey.{tags.get('d', '')}".lower()


def _verdict(content: bytes, index: int, tags: Mapping[str, str], keys: Mapping[str, str]) -> Verdict:
    known = printable(tags.get("d", "")), printable(tags.get("s", "")), printable(tags.get("a", ""))
    if len(content) > _LONGEST:
        return Verdict(*known, None, f"larger than {_LONGEST} octets")
    if _key_name(tags) not in keys:
        return Verdict(*known, False, f"there is no key at {printable(_key_name(tags))}")

    def txt(name: bytes, timeout: int = 5) -> bytes:
        return keys[name.decode("ascii").rstrip(".").lower()].encode("latin-1")

    verifier: Any = dkim.DKIM(content)
    try:
        holds = bool(verifier.verify(idx=index, dnsfunc=txt))
    except dkim.NaClNotFoundError:
        return Verdict(*known, None, "dkimpy needs PyNaCl for Ed25519: pip install pynacl")
    except Exception as error:  # dkimpy raises what it likes for mail it does not expect
        return Verdict(*known, False, printable(f"{error or type(error).__name__}", 200))
    return Verdict(*known, holds, "" if holds else "the header was changed, or signed by another key")
