"""One bounded HTTP exchange with an authority or a witness."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from functools import cache
from typing import Final, Self

import httpx2

from ledger import __version__
from ledger.core.attesting.errors import AttestationError, AttestationUnavailable
from ledger.surroundings import blaming_surroundings, is_loopback

TIMEOUT_S: Final = 10.0
"""For the whole exchange. A slower peer is asked again in a later turn."""
# Identity: a compressed answer could grow without bound when it is decompressed.
_HEADERS: Final = {"user-agent": f"quire/{__version__}", "accept-encoding": "identity"}
_CONNECTIONS: Final = httpx2.Limits(max_connections=2, max_keepalive_connections=1)


@dataclass(frozen=True, slots=True)
class PeerAnswer:
    """A complete answer. ``media_type`` is lower-case and without parameters."""

    status: int
    media_type: str
    body: bytes


class Peer:
    """A client of one authority or witness; ``role`` is what messages call that server.

    Redirects are not followed. Raises AttestationError for an invalid URL, and for a proxy or
    certificates in the environment that can't be used.
    """

    def __init__(self, role: str, url: str, timeout_s: float) -> None:
        self._url = _checked(role, url)
        port = f":{self._url.port}" if self._url.port else ""
        # Not the whole URL: it may hold a password or a token of the operator.
        self.name = f"the {role} {self._url.scheme}://{self._url.host}{port}"
        self._timeout_s = timeout_s
        with blaming_surroundings(AttestationError):
            self._http = httpx2.AsyncClient(
                verify=trusted(),
                timeout=timeout_s,
                headers=_HEADERS,
                limits=_CONNECTIONS,
                trust_env=not is_loopback(self._url.host),  # no proxy for this machine
            )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def post(self, path: str, body: bytes, media_type: str, limit: int) -> PeerAnswer:
        """POST to a path under the URL and read an answer of at most ``limit`` bytes.

        Raises AttestationUnavailable unless a complete answer arrives in time.
        """
        url = self._url.copy_with(path=self._url.path.rstrip("/") + path) if path else self._url
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                self._http.stream(
                    "POST", url, content=body, headers={"content-type": media_type}
                ) as response,
            ):
                found = response.headers.get("content-type", "").partition(";")[0]
                return PeerAnswer(
                    response.status_code, found.strip().lower(), await self._read(response, limit)
                )
        except (TimeoutError, httpx2.TimeoutException):
            raise AttestationUnavailable(
                f"{self.name} did not answer within {self._timeout_s:g} s"
            ) from None
        except httpx2.HTTPError as error:
            raise AttestationUnavailable(f"{self.name} {_failure(error)}") from error

    async def _read(self, response: httpx2.Response, limit: int) -> bytes:
        received = bytearray()
        async for chunk in response.aiter_raw():
            received += chunk
            if len(received) > limit:
                raise AttestationUnavailable(f"{self.name} answered with more than {limit} bytes")
        return bytes(received)


@cache
def trusted() -> ssl.SSLContext:
    """The CA certificates for HTTPS, read once, as that takes a tenth of a second."""
    return httpx2.create_ssl_context()


def _failure(error: httpx2.HTTPError) -> str:
    """How a request failed. The error's own text is left out: it may quote the request."""
    if isinstance(error, httpx2.ConnectError):
        return "can't be reached; check its URL, its certificate and the network"
    return "gave no answer: the connection broke, or it does not speak HTTP"


def _checked(role: str, text: str) -> httpx2.URL:
    try:
        url = httpx2.URL(text)
    except httpx2.InvalidURL as error:
        raise AttestationError(f"the URL of the {role} can't be read: {error}") from None
    if url.scheme not in {"http", "https"} or not url.host:
        raise AttestationError(f"the URL of the {role} must be http://host or https://host")
    return url
