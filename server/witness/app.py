"""The witness over HTTP: a small ASGI application with two routes (C2SP tlog-witness)."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import sha256
from typing import Any, Final

import structlog

from ledger.core.lasting import SILENT_S, Lasting, LastingByKey, end_silent
from ledger.errors import ClockUnsteady
from ledger.submission import SUBMISSION_BYTES_MAX
from server.http.protocol.watching.receiving import (
    BodyLate,
    BodyTooLarge,
    ClientGone,
    body_of_request,
)
from server.witness.cosigner import Cosigner, CosignerAnswer

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_NO_TIME: Final = CosignerAnswer(
    503, b"the witness's clock can't be trusted now; try again later\n"
)
_UNAVAILABLE: Final = CosignerAnswer(
    503, b"the witness's state file can't be used now; try again later\n"
)
_TOO_LARGE: Final = CosignerAnswer(
    413, f"a submission has at most {SUBMISSION_BYTES_MAX} bytes\n".encode()
)
_TOO_SLOW: Final = CosignerAnswer(408, b"the body arrives too slowly\n")
_NOT_FOUND: Final = CosignerAnswer(404, b"not found; a witness serves /add-checkpoint\n")
_NO_METHOD: Final = b"method not allowed; /add-checkpoint takes POST, a checkpoint GET\n"
_ADD: Final = "/add-checkpoint"
_OF_ADD: Final = "OPTIONS, POST"
_OF_CHECKPOINT: Final = "GET, HEAD, OPTIONS"

log = structlog.get_logger("quire.witness")


class WitnessApp:
    """Answers add-checkpoint, and monitors that read a log's newest checkpoint.

    Submissions are checked one after the other, in one thread that owns the state.
    """

    def __init__(self, cosigner: Cosigner, origins: Iterable[str]) -> None:
        self._cosigner = cosigner
        self._paths = {
            f"/{sha256(origin.encode()).hexdigest()}/checkpoint": origin for origin in origins
        }
        self._state_fails = Lasting("the witness's state file fails", "the state file works again")
        self._clock_leapt = Lasting("the clock leapt: nothing is cosigned", "the clock is steady")
        self._refused = LastingByKey(
            "not cosigned", "such submissions no longer arrive", silent_s=SILENT_S
        )
        self._thread = ThreadPoolExecutor(1, "heads")

    def close(self) -> None:
        """Wait for the submission that is being checked."""
        self._thread.shutdown()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        try:
            answer = await self._answer(scope, receive)
        except ClientGone:
            return
        except sqlite3.Error as error:
            self._state_fails.failed(log.error, str(error))
            answer = _UNAVAILABLE
        except ClockUnsteady as error:
            self._clock_leapt.failed(log.error, str(error))
            answer = _NO_TIME
        else:
            self._state_fails.fine()
            self._clock_leapt.fine()
        end_silent()
        await _send(send, answer, with_body=scope["method"] != "HEAD")

    async def _answer(self, scope: Message, receive: Receive) -> CosignerAnswer:
        method, path = scope["method"], scope["path"]
        origin = self._paths.get(path)
        if path != _ADD and origin is None:
            return _NOT_FOUND
        allow = _OF_CHECKPOINT if origin else _OF_ADD
        if method == "OPTIONS":
            return CosignerAnswer(204, b"", allow=allow)
        if method not in allow.split(", "):
            return CosignerAnswer(405, _NO_METHOD, allow=allow)
        if origin is not None:
            return await self._in_thread(partial(self._cosigner.latest, origin))
        body = await _body(scope["state"], receive)
        return body if isinstance(body, CosignerAnswer) else await self._add(body)

    async def _add(self, body: bytes) -> CosignerAnswer:
        answer = await self._in_thread(partial(self._cosigner.add_checkpoint, body))
        if answer.status != 200:
            reason = answer.body.decode("utf-8", "replace").strip()
            self._refused.failed(answer.status, log.info, reason, status=answer.status)
        return answer

    async def _in_thread(self, work: Callable[[], CosignerAnswer]) -> CosignerAnswer:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


async def _body(state: Message, receive: Receive) -> bytes | CosignerAnswer:
    """Return the whole body, or the answer to a body that is too large or too slow."""
    try:
        return bytes(await body_of_request(state, receive, SUBMISSION_BYTES_MAX))
    except BodyTooLarge:
        return _TOO_LARGE
    except BodyLate:
        return _TOO_SLOW


async def _send(send: Send, answer: CosignerAnswer, *, with_body: bool) -> None:
    headers = [(b"cache-control", b"no-store")]
    if answer.allow:
        headers.append((b"allow", answer.allow.encode()))
    if answer.status != 204:
        headers.append((b"content-type", answer.media_type.encode()))
        headers.append((b"content-length", str(len(answer.body)).encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body if with_body else b""})
