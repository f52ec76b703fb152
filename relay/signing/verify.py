"""Verify: whether the DKIM signatures of a message hold, by dkimpy, which shares no line with our signer.

In: a message and the key records by name. Out: one Verdict a signature. Never raises for a message. For an operator's
hand only: dkimpy takes quadratic time for hostile white space, so no mail of strangers goes through it by itself.
What dkimpy lets pass is looked at here: a body signed in part, SHA-1, a key for its own domain alone.
Source: RFC 6376 §6.1, §8.2 (l=), §3.6.1 (t=s); RFC 8301 §3.1 (SHA-1).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import dkim

from relay.mail.message import header_block, header_fields, signature_tags
from relay.mail.reply import printable

MOST_SIGNATURES: Final = 10
_LONGEST: Final = 26_214_400
_TAG: Final = re.compile(r"\s*([A-Za-z][A-Za-z0-9_]*+)\s*=(.*)", re.DOTALL)


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
    """`keys` holds TXT records by name; a name that is not in it has none. Ten signatures are checked at most."""
    header = header_block(content)
    whole = [_tags(field.text) for field in header_fields(header) if field.name == "dkim-signature"]
    return [_verdict(content, index, tags, whole[index], keys) for index, tags in enumerate(signature_tags(header))]


def _tags(text: str) -> dict[str, str]:
    """Tags of a signature or a key record; nothing verified."""
    return {match[1]: match[2].strip() for part in text.split(";") if (match := _TAG.fullmatch(part))}


def _key_name(tags: Mapping[str, str]) -> str:
    return f"{tags.get('s', '')}._domainkey.{tags.get('d', '')}".lower()


def _verdict(
    content: bytes, index: int, tags: Mapping[str, str], whole: Mapping[str, str], keys: Mapping[str, str]
) -> Verdict:
    known = printable(tags.get("d", "")), printable(tags.get("s", "")), printable(tags.get("a", ""))
    if index >= MOST_SIGNATURES:
        return Verdict(*known, None, f"more than {MOST_SIGNATURES} signatures")
    if len(content) > _LONGEST:
        return Verdict(*known, None, f"larger than {_LONGEST} octets")
    if _key_name(tags) not in keys:
        return Verdict(*known, False, f"there is no key at {printable(_key_name(tags))}")
    weak = _weakness(whole, _tags(keys[_key_name(tags)]))
    if weak:
        return Verdict(*known, False, weak)

    def txt(name: bytes, timeout: int = 5) -> bytes:
        return keys[name.decode("ascii").rstrip(".").lower()].encode("latin-1")

    try:
        verifier: Any = dkim.DKIM(content)
        holds = bool(verifier.verify(idx=index, dnsfunc=txt))
    except dkim.NaClNotFoundError:
        return Verdict(*known, None, "dkimpy needs PyNaCl for Ed25519: pip install pynacl")
    except Exception as error:  # dkimpy raises what it likes for mail it does not expect
        return Verdict(*known, False, printable(f"{error or type(error).__name__}", 200))
    return Verdict(*known, holds, "" if holds else "the header was changed, or signed by another key")


def _weakness(signature: Mapping[str, str], key: Mapping[str, str]) -> str:
    """Why a signature that holds proves too little, or ""."""
    if "l" in signature:
        return "only the beginning of the body is signed (l=)"
    if signature.get("a", "").lower() == "rsa-sha1":
        return "rsa-sha1 is no proof any more"
    identity = signature.get("i", "").rpartition("@")[2].lower()
    if "s" in key.get("t", "").replace(" ", "").split(":") and identity not in ("", signature.get("d", "").lower()):
        return "the key is for its own domain alone (t=s), and i= names another"
    return ""
