"""Names of signing domains and selectors: checked before they become folders, files or DNS names.

Raises OperatorError with the fix in it. What passes holds no slash, no empty label and no leading dot.
Source: RFC 1035 §2.3.4 (lengths), RFC 6376 §3.1 (selectors), RFC 5891 (A-labels).
"""

from __future__ import annotations

import re
from typing import Final

from relay.mail.address import to_ascii_domain
from relay.mail.errors import AddressSyntaxError, OperatorError

DOMAIN_LENGTH: Final = 253
SELECTOR_LENGTH: Final = 63

_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?\Z")


def checked_domain(text: str) -> str:
    """The domain in lower case and A-labels, without a final dot."""
    try:
        domain = to_ascii_domain(text.strip().removesuffix("."))
    except AddressSyntaxError as error:
        raise OperatorError(f"domain {text!r}: {error}") from error
    if len(domain) > DOMAIN_LENGTH or "." not in domain or not _are_labels(domain):
        raise OperatorError(f"domain {text!r} is not a full domain name such as example.com")
    return domain


def checked_selector(text: str) -> str:
    """The selector, which is one or more labels."""
    if len(text) > SELECTOR_LENGTH or not _are_labels(text):
        raise OperatorError(
            f"selector {text!r} is not usable; take up to {SELECTOR_LENGTH} of a-z, 0-9, '-', such as relay1"
        )
    return text


def _are_labels(name: str) -> bool:
    return all(_LABEL.match(label) for label in name.split("."))
