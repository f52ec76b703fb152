"""Dead letters on the control socket: POST /admin/dead/reinject makes new messages of them, each once.

In: ids or a filter, optionally other recipients. Out: the new ids, 200 letters an answer at most; `after` is to be sent
back where there may be more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final, Protocol

from fastapi import APIRouter
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from relay.intake.again import again
from relay.mail.address import parse_address
from relay.mail.errors import StoreError
from relay.mail.reply import Reply
from relay.ports import Clock, NewMessage
from relay.store.dead import DeadLetter
from relay.store.spool_verbs import Selection

_AT_A_TIME: Final = 200

MessageId = Annotated[str, Field(pattern=r"^[0-7][0-9a-f]{15}$")]
Words = Annotated[str, Field(max_length=400)]
Address = Annotated[str, Field(max_length=400), AfterValidator(lambda text: str(parse_address(text)))]


class Spool(Protocol):
    """What of the spool is needed. Raises StoreError."""

    def new_id(self) -> str: ...

    async def dead(
        self, selection: Selection, after: str | None, limit: int
    ) -> tuple[list[dict[str, Any]], str | None]: ...

    async def dead_letter(self, message_id: str) -> tuple[DeadLetter, bytes] | None: ...

    async def send_again(self, dead_id: str, message: NewMessage) -> bool:
        """False, and nothing stored, where it was sent again before or is gone."""
        ...


class Wanted(BaseModel):
    """Which letters: every condition given must hold. `to` instead of the recipients that failed."""

    model_config = ConfigDict(extra="forbid")

    ids: Annotated[list[MessageId], Field(max_length=10_000)] = []
    account: Words = ""
    domain: Words = ""
    sender: Words = ""
    older: Annotated[float, Field(gt=0, le=1e9)] | None = None
    all: bool = False
    to: Annotated[list[Address], Field(max_length=1000)] = []
    dry_run: bool = False
    after: MessageId | None = None

    @model_validator(mode="after")
    def _says_which(self) -> Wanted:
        if not any((self.ids, self.account, self.domain, self.sender, self.older, self.all)):
            raise ValueError("name ids, or account, domain, sender or older, or say all")
        return self


def dead_router(
    spool: Spool,
    hostname: Callable[[], str],
    received: Callable[[], int],
    clock: Clock,
    look: Callable[[], None],
    told: Callable[[str, str], None],
) -> APIRouter:
    """Over one lane. `look` makes its feeder look at the spool; `told` hears of a new message and its dead letter."""
    router = APIRouter(prefix="/admin/dead")

    async def send_again(dead_id: str, to: list[str]) -> str | Reply | None:
        """The new id, why it may not be, or None where it is gone or was sent again before."""
        try:
            found = await spool.dead_letter(dead_id)
        except StoreError:
            return None
        if found is None or found[0].again is not None:
            return None
        message = again(found[0], found[1], to, spool.new_id(), hostname(), received(), clock.now())
        if isinstance(message, Reply):
            return message
        if not await spool.send_again(dead_id, message):
            return None
        told(message.id, dead_id)
        return message.id

    @router.post("/reinject")
    async def reinject(wanted: Wanted) -> dict[str, Any]:
        before = None if wanted.older is None else clock.now() - wanted.older
        chosen = Selection(tuple(wanted.ids), wanted.account, wanted.domain, wanted.sender, "", before)
        found, after = await spool.dead(chosen, wanted.after, _AT_A_TIME)
        letters = []
        for one in found:
            made: str | Reply | None = None
            if not wanted.dry_run and one["again"] is None:
                made = await send_again(one["id"], wanted.to)
            to = wanted.to or [recipient["address"] for recipient in one["recipients"]]
            refused = str(made) if isinstance(made, Reply) else None
            again_id = made if isinstance(made, str) else None
            letters.append({"id": one["id"], "to": to, "earlier": one["again"], "new": again_id, "refused": refused})
        if any(one["new"] for one in letters):
            look()
        return {"letters": letters, "after": after}

    return router
