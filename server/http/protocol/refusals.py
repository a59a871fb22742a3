"""Answers to requests that the protocol itself refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from ledger.errors import UNAVAILABLE
from ledger.storage.asking import STRANGERS
from server.http.problems import MEDIA_TYPE, RETRY_AFTER_S, UNSUPPORTED_TYPE, document
from server.http.protocol.address import address_of
from server.http.protocol.bytes_response import BytesResponse
from server.http.protocol.loop_shares import LOOP_SHARES, LoopShares
from server.http.protocol.response_headers import DefaultHeaders
from server.http.protocol.wellformed import RequestFlaw

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application

NO_PLACE: Final = RequestFlaw(
    UNAVAILABLE, "this server has as many connections as it may now; retry shortly"
)


def refusal(flaw: RequestFlaw) -> ASGI3Application:
    """Return an application that answers every request with this flaw, as one of a stranger."""
    body = document(flaw.kind, flaw.detail)
    headers: tuple[tuple[bytes, bytes], ...] = ()
    if flaw.kind is UNSUPPORTED_TYPE:
        headers += ((b"accept-encoding", b"identity"),)  # RFC 9110, section 12.5.3
    if flaw.kind is UNAVAILABLE:
        headers += ((b"retry-after", b"%d" % RETRY_AFTER_S),)
    answer = BytesResponse(flaw.kind.status, body, headers, MEDIA_TYPE.encode())

    async def refused(scope: Any, receive: Any, send: Any) -> None:
        shares: LoopShares | None = scope["state"].get(LOOP_SHARES)
        if shares is not None and (begun := shares.enter(STRANGERS, address_of(scope).group)):
            await begun
        await answer(scope, receive, send)

    return cast("ASGI3Application", DefaultHeaders(refused))
