"""Contacts on the control socket: erase a person, tell what was given up again, forget what waits.

In: an address; a name of `[contacts.NAME]`. Out: JSON, after the commit. Over one lane: the command asks every one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Protocol

from fastapi import APIRouter
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from relay.mail.address import parse_address


class Outbox(Protocol):
    """What of the spool is needed. Raises StoreError."""

    async def contact_erase(self, names: Sequence[str], address: str) -> None: ...

    async def contacts_again(self, name: str) -> int: ...

    async def contacts_forget(self, name: str) -> int: ...


class Person(BaseModel):
    """Whom to erase."""

    model_config = ConfigDict(extra="forbid")

    address: Annotated[str, Field(max_length=400), AfterValidator(lambda text: str(parse_address(text)))]


class Named(BaseModel):
    """One `[contacts.NAME]`, which need not be configured any more."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(max_length=64)]


def contacts_router(outbox: Outbox, names: Callable[[], Sequence[str]], again: Callable[[str], None]) -> APIRouter:
    """`names` are the platforms in force; `again` ends the pause of one."""
    router = APIRouter(prefix="/admin/contacts")

    @router.post("/erase")
    async def erase(wanted: Person) -> dict[str, Any]:
        found = tuple(names())
        if found:
            await outbox.contact_erase(found, wanted.address)
        return {"names": list(found)}

    @router.post("/retry")
    async def retry(wanted: Named) -> dict[str, Any]:
        found = await outbox.contacts_again(wanted.name)
        again(wanted.name)
        return {"contacts": found}

    @router.post("/forget")
    async def forget(wanted: Named) -> dict[str, Any]:
        return {"contacts": await outbox.contacts_forget(wanted.name)}

    return router
