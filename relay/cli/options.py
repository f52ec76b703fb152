"""Options: what a message asked for at the door, in a few words for people.

In: the options as spool_read.describe tells them. Out: words, one for each that is worth showing.
"""

from __future__ import annotations

from typing import Any

from relay.mail.dates import date_time


def words_of(options: dict[str, Any]) -> list[str]:
    """Empty for an ordinary message."""
    words = []
    if options.get("priority"):
        words.append(f"priority {options['priority']}")
    if options.get("deliver_by") is not None:
        late = "return it" if options["by_mode"] == "R" else "tell its sender"
        words.append(f"deliver by {date_time(options['deliver_by'])} or {late}")
    if options.get("requiretls"):
        words.append("requires TLS to its end")
    return words
