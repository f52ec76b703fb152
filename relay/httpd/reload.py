"""Reload: the operator's `relay reload`. Served on the control socket only.

POST /admin/reload asks the server for what SIGHUP asks it; GET /admin/configuration says by which settings this worker
runs, so that one can see when it is done.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter


def reload_router(hang_up: Callable[[], None], digest: Callable[[], str]) -> APIRouter:
    """`hang_up` signals the process that was started; `digest` is that of the settings in force."""
    router = APIRouter(prefix="/admin")

    @router.post("/reload")
    async def reload() -> dict[str, Any]:
        hang_up()
        return {"asked": True}

    @router.get("/configuration")
    async def configuration() -> dict[str, Any]:
        return {"digest": digest()}

    return router
