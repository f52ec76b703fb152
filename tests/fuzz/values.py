"""JSON of odd types: octets choose how a document that is right is bent."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from typing import Any

from harness import Octets

ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1e308, float("inf"), float("-inf"), float("nan"), 10**400, 10**18, -(10**18), 0.1, "",
    " ",
    "a", "\ud800", "\0", "ü", "<a@b.example>", "Ann <a@b.example>", "a" * 2000, "2027-01-15T09:00:00Z", "1e999",
    "9" * 40,
    "0001-01-01T00:00:00+23:59", [], {}, [None], [[]], [{}], {"a": {}}, {"": None}, ["a", 1], 2**63, "delivered",
    "bounce",
)  # fmt: skip


def bent(chosen: Octets, documents: Sequence[Any]) -> Any:
    """One of the documents, with up to seven of its values replaced, taken away, doubled or exchanged."""
    found = copy.deepcopy(chosen.one(documents))
    for _ in range(chosen.number(8)):
        found = _bent_once(chosen, found)
    return found


def _bent_once(chosen: Octets, tree: Any) -> Any:
    if isinstance(tree, dict) and tree and chosen.number(5):
        key = chosen.one(list(tree))
        how = chosen.number(8)
        if how == 0:
            del tree[key]
        elif how == 1:
            tree[chosen.one((*tree, "\ud800", ""))] = copy.deepcopy(tree[key])
        else:
            tree[key] = _bent_once(chosen, tree[key])
        return tree
    if isinstance(tree, list) and tree and chosen.number(5):
        place = chosen.number(len(tree))
        how = chosen.number(8)
        if how == 0:
            return tree + copy.deepcopy(tree)
        tree[place] = _bent_once(chosen, tree[place])
        return tree
    return copy.deepcopy(chosen.one(ODD))


def written(document: Any, chosen: Octets) -> bytes:
    """As JSON, with escapes or without, perhaps cut."""
    text = json.dumps(document, ensure_ascii=bool(chosen.number(2)))
    octets = text.encode("utf-8", "surrogatepass")
    return octets[: chosen.number() * len(octets) // 256] if chosen.number(16) == 1 else octets
