"""Who may read metrics and the details of the server's health, and readings that calls share."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Generic, TypeVar

from ledger.errors import StorageError
from ledger.storage import archive_cost, indexing, trees
from server import metrics
from server.access.auth import token_of
from server.access.principal import AddressNotAllowed, Unauthorized
from server.access.rights import May
from server.http.caller import HttpRequest, headers_of, require_address, services_of
from server.settings import Settings
from server.trails.readiness import DatabaseState, database_state
from server.trails.services import Services

MEASURED_S: Final = 0.0
"""The gauges of the database are measured for each call, as only operators may call; measuring them
reads a row of each org, so one call does it at a time."""
CHECKED_S: Final = 0.05
"""How long a look at the database counts for readyz, which anybody may call."""
KEY_S: Final = 0.5
"""How long readyz waits for the database to check a key; the metrics token needs none."""
PRIVATE_PATHS: Final = frozenset({"/livez", "/readyz", "/metrics"})
"""The only paths of the private listener."""

T = TypeVar("T")


def is_private(scope: Mapping[str, Any], settings: Settings) -> bool:
    """Return whether a request came in by the private listener of QUIRE_METRICS_PORT."""
    return settings.metrics_port is not None and scope["server"][1] == settings.metrics_port


def require_metrics_reader(request: HttpRequest) -> None:
    """Admit a request for the metrics. Raises Unauthorized."""
    settings = services_of(request).settings
    if not is_private(request.scope, settings) and not _has_token(request, settings):
        raise Unauthorized(
            "metrics need the token of QUIRE_METRICS_TOKEN as 'Authorization: Bearer …', or the "
            "private listener of QUIRE_METRICS_PORT"
        )


async def may_see_details(request: HttpRequest) -> bool:
    """Return whether a request may see why the server is not ready."""
    services = services_of(request)
    if is_private(request.scope, services.settings) or _has_token(request, services.settings):
        return True
    token = token_of(headers_of(request))
    if token is None:
        return False
    try:
        async with asyncio.timeout(KEY_S):
            principal = await services.authenticator.principal(token)
            require_address(request, principal)
    except (
        Unauthorized,
        AddressNotAllowed,
        StorageError,
        TimeoutError,
    ):  # no key is checked without the database
        return False
    return principal.may(May.PLATFORM)


def _has_token(request: HttpRequest, settings: Settings) -> bool:
    """Return whether a request has the metrics token, in a time that reveals none of it."""
    sent = token_of(headers_of(request))
    if settings.metrics_token is None or sent is None:
        return False
    return hmac.compare_digest(sent.encode(), settings.metrics_token.encode())


class SharedReading(Generic[T]):
    """A reading that all calls of a moment share: one is made at a time."""

    def __init__(self, read: Callable[[], Awaitable[T]], fresh_s: float) -> None:
        self._read = read
        self._fresh_s = fresh_s
        self._last: tuple[float, T] | None = None
        self._reading = asyncio.Lock()

    async def get(self) -> T:
        """Return the newest reading, made anew if it is too old."""
        async with self._reading:
            if self._last is None or time.monotonic() - self._last[0] > self._fresh_s:
                read = await self._read()
                self._last = time.monotonic(), read
            return self._last[1]


def database_states(services: Services) -> SharedReading[DatabaseState]:
    """Return the readings of the database's state; one for each process, by ``Services.part``."""
    return SharedReading(lambda: database_state(services), CHECKED_S)


def database_gauges(services: Services) -> SharedReading[None]:
    """Return the readings that set the gauges; one for each process, by ``Services.part``."""
    return SharedReading(lambda: _measure(services), MEASURED_S)


async def _measure(services: Services) -> None:
    """Update the metrics of the database; while it is away, they stay as they are."""
    metrics.BLOCKS.set(len(services.register.state.blocks.live(services.blocked.now_us())))
    with contextlib.suppress(StorageError):
        signing = await trees.signing_state(services.database)
        metrics.UNSIGNED.set(signing.unsigned)
        metrics.STOPPED.set(signing.stopped)
        metrics.SIGNED_AT.set(signing.anchored_s)
        metrics.UNINDEXED.set(await indexing.unindexed(services.database))
        await _measure_archive(services)


async def _measure_archive(services: Services) -> None:
    """Update the metrics of the archive. Raises StorageError."""
    target = services.settings.archive_target
    if target is None:
        return
    cost = await archive_cost.cost(services.database, target)
    metrics.ARCHIVER_CPU.set(cost.cpu_seconds)
    metrics.ARCHIVED_OBJECTS.set(cost.objects)
    metrics.ARCHIVED_BYTES.set(cost.bytes)
    lag = await archive_cost.lag(services.database, target)
    metrics.ARCHIVE_BEHIND.set(lag.entries)
    metrics.ARCHIVE_AGE.set(lag.seconds)
