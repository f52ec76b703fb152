"""Doubts as a spool keeps them: a column of text, `""` for none. In and out: Doubt. Pure."""

from __future__ import annotations

import dataclasses
import json

from relay.ports import Doubt


def text_of(doubt: Doubt | None) -> str:
    """As it is stored."""
    return json.dumps(dataclasses.asdict(doubt)) if doubt is not None else ""


def doubt_of(text: str) -> Doubt | None:
    """As it was stored by `text_of`."""
    return Doubt(**json.loads(text)) if text else None
