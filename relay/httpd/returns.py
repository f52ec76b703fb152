"""Returns on the control socket: POST /admin/returns, mail that came to another worker and is about a message here.

In: what was read of it. Out: whose message it was and who is to have the mail, or why there is nobody.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from fastapi import APIRouter, Request

from relay.httpd.peers import ask
from relay.mail.returned import ReportedRecipient
from relay.ports import Origin, ReturnedMail

Answer = Origin | Literal["gone", "early"]


def returns_router(take: Callable[[ReturnedMail], Awaitable[Answer]]) -> APIRouter:
    """Over one lane."""
    router = APIRouter(prefix="/admin")

    @router.post("/returns")
    async def returns(request: Request) -> dict[str, Any]:
        answer = await take(_mail(await request.json()))
        return {"origin": [answer.account, answer.sender] if isinstance(answer, Origin) else None, "why": str(answer)}

    return router


async def ask_owner(folder: Path, spool: int, mail: ReturnedMail) -> Answer:
    """Of the worker that holds `spool`. Raises OperatorError where it does not answer."""
    answer = await ask(folder, spool, "/admin/returns", asdict(mail))
    if answer["origin"]:
        return Origin(*answer["origin"])
    return "early" if answer["why"] == "early" else "gone"


def _mail(fields: dict[str, Any]) -> ReturnedMail:
    reported = [ReportedRecipient(**{**one, "addresses": tuple(one["addresses"])}) for one in fields.pop("reported")]
    return ReturnedMail(**fields, reported=tuple(reported))
