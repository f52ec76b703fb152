"""Peers: a question to the workers of other spools, over their control sockets.

In: the folder of the sockets, numbers of spools, a path, JSON. Out: their answers. A worker that starts is waited for.
Raises OperatorError where one does not answer: whoever asked has to ask again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import aiohttp

from relay.httpd.control_socket import control_path
from relay.mail.errors import OperatorError

_SECONDS: Final = 10.0
_START_SECONDS: Final = 3.0
_PAUSE: Final = 0.1


async def ask_all(folder: Path, numbers: Iterable[int], path: str, body: Any) -> list[Any]:
    """POST `body` to the workers of the spools `numbers`. Raises OperatorError."""
    return list(await asyncio.gather(*(ask(folder, number, path, body) for number in numbers)))


async def ask(folder: Path, number: int, path: str, body: Any) -> Any:
    """POST `body` to the worker of one spool. Raises OperatorError."""
    address = control_path(folder, number)
    connector = aiohttp.UnixConnector(str(address))
    try:
        async with aiohttp.ClientSession(
            connector=connector, timeout=aiohttp.ClientTimeout(total=_SECONDS), raise_for_status=True
        ) as session:
            return await _ask_when_it_serves(session, f"http://localhost{path}", body)
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise OperatorError(f"{address}: a worker does not answer: {type(error).__name__}") from error


async def _ask_when_it_serves(session: aiohttp.ClientSession, url: str, body: Any) -> Any:
    for _ in range(int(_START_SECONDS / _PAUSE)):
        try:
            return await _ask(session, url, body)
        except aiohttp.ClientConnectorError:
            await asyncio.sleep(_PAUSE)
    return await _ask(session, url, body)


async def _ask(session: aiohttp.ClientSession, url: str, body: Any) -> Any:
    async with session.post(url, json=body) as answer:
        return await answer.json()
