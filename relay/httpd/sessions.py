"""Sessions: what a worker remembers of its SMTP sessions. Served on the control socket only.

GET /admin/sessions lists those that failed, without transcripts; GET /admin/sessions/ID has one with its transcript.
GET /admin/devices lists which clients need something tolerated.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter

from relay.httpd.application import problem
from relay.mail.diagnosis import Device, FailedSession


def sessions_router(
    failed: Callable[[], Sequence[FailedSession]], devices: Callable[[], Sequence[Device]]
) -> APIRouter:
    """Both have the newest first."""
    router = APIRouter(prefix="/admin")

    @router.get("/sessions")
    async def listing() -> dict[str, Any]:
        """`pid` tells two sockets of one worker."""
        sessions = [{name: value for name, value in asdict(one).items() if name != "transcript"} for one in failed()]
        return {"pid": os.getpid(), "sessions": sessions}

    @router.get("/sessions/{session_id}")
    async def show(session_id: str) -> Any:
        found = next((one for one in failed() if one.id == session_id), None)
        return problem(404, "not_found", "No such session is remembered") if found is None else asdict(found)

    @router.get("/devices")
    async def needs() -> dict[str, Any]:
        return {"pid": os.getpid(), "devices": [asdict(one) for one in devices()]}

    return router
