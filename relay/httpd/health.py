"""Health: GET /healthz, /readyz and /metrics, for load balancers, service managers and Prometheus. No key needed.

In: what keeps this worker from taking mail, and the metrics' text. Out: JSON, and the Prometheus text format.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

HEALTH_PATHS: Final = frozenset({"/healthz", "/readyz", "/metrics"})


def health_router(not_ready: Callable[[], list[str]], metrics: Callable[[], bytes], metrics_type: str) -> APIRouter:
    """`not_ready` names the reasons why no new work should come; `metrics` is the exposition."""
    router = APIRouter()

    @router.api_route("/healthz", methods=["GET", "HEAD"])
    async def healthz() -> dict[str, str]:
        """200 while the event loop turns."""
        return {"status": "ok"}

    @router.api_route("/readyz", methods=["GET", "HEAD"])
    async def readyz() -> JSONResponse:
        """200 when mail can be taken; 503 with the reasons when not."""
        reasons = not_ready()
        state = "not ready" if reasons else "ready"
        return JSONResponse({"status": state, "reasons": reasons}, 503 if reasons else 200)

    @router.get("/metrics")
    async def exposition() -> Response:
        """Collected in a thread, for it takes milliseconds."""
        return Response(await asyncio.to_thread(metrics), media_type=metrics_type)

    return router
