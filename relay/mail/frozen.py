"""frozen: the decorator of values: classes whose objects are never altered, only replaced.

The type checker holds the code to that. A frozen dataclass holds every assignment to it as well, those of its own
making included, and so takes several times as long to make; a message is some thirty such objects.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

_T = TypeVar("_T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(cls: type[_T]) -> type[_T]:
    """A dataclass with slots, compared and hashed by its fields; frozen to the type checker alone."""
    return dataclass(slots=True, unsafe_hash=True)(cls)
