"""Reports whether appends can be written: by the outcome of the last appends, else by a probe.

Under load nothing is probed, as each commit proves that the database accepts writes. An idle server
writes a probe when its health is read, once a second at most. A failed probe is repeated for
two seconds before it is reported, so that a failover or a dropped connection raises no alarm.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final

from ledger.errors import QuireError
from ledger.storage.probing import is_of_the_schema, public_reason

_log = logging.getLogger("quire")

FRESH_S: Final = 1.0
"""How long a commit, or the result of a probe, counts."""
HICCUP_S: Final = 2.0
"""How long probes must fail before the failure is reported."""
ANSWER_S: Final = 3.0
"""The longest time until :meth:`AppendHealth.trouble` returns."""
PAUSE_S: Final = 0.25
SCHEMA_FAILURE_S: Final = 15.0
"""How long an append counts that failed on rights or tables, such as a month's, that a probe lacks."""
FIRST_LOG_INTERVAL_S: Final = 60.0


class AppendHealth:
    """The outcome of the last appends and probes of one process."""

    def __init__(self, probe: Callable[[], Awaitable[None]]) -> None:
        self._probe = probe
        self._committed_at = float("-inf")
        self._schema_failure: tuple[float, str] | None = None
        self._failing_since: float | None = None
        self._last_answer: tuple[float, str | None] = (float("-inf"), None)
        self._probing = asyncio.Lock()
        self._logged_at = 0.0
        self._log_interval_s = 0.0

    def committed(self) -> None:
        """Record that a transaction was committed."""
        self._committed_at = time.monotonic()
        self._schema_failure = None

    def failed(self, error: BaseException) -> None:
        """Record that an append was not written; kept only where a probe may not meet the same."""
        if is_of_the_schema(error):
            self._schema_failure = (time.monotonic(), public_reason(error))

    async def trouble(self) -> str | None:
        """The reason why no append can be written now, fit for the public; None when appends work."""
        async with self._probing:
            now = time.monotonic()
            if now - self._committed_at < FRESH_S:
                self._recovered()
                return None
            if now - self._last_answer[0] >= FRESH_S:
                self._last_answer = await self._probe_repeatedly()
            return self._last_answer[1]

    async def _probe_repeatedly(self) -> tuple[float, str | None]:
        began = time.monotonic()
        while True:
            error = await self._probe_once(began + ANSWER_S - time.monotonic())
            now = time.monotonic()
            if error is None:
                return now, self._recent_schema_failure(now)
            if self._failing_since is None:
                self._failing_since = began
            if now - self._failing_since >= HICCUP_S or now + PAUSE_S >= began + ANSWER_S:
                self._log(error, now)
                return now, public_reason(error)
            await asyncio.sleep(PAUSE_S)

    async def _probe_once(self, limit_s: float) -> BaseException | None:
        try:
            async with asyncio.timeout(limit_s):
                await self._probe()
        except (QuireError, TimeoutError) as error:
            return error
        self._recovered()
        return None

    def _recent_schema_failure(self, now: float) -> str | None:
        if self._schema_failure is None or now - self._schema_failure[0] >= SCHEMA_FAILURE_S:
            return None
        return self._schema_failure[1]

    def _recovered(self) -> None:
        if self._log_interval_s:
            _log.warning("appends can be written again")
        self._failing_since, self._log_interval_s = None, 0.0

    def _log(self, error: BaseException, now: float) -> None:
        """Log the failure at once, and then at growing intervals while it lasts."""
        if now - self._logged_at >= self._log_interval_s:
            self._logged_at = now
            self._log_interval_s = max(self._log_interval_s * 2, FIRST_LOG_INTERVAL_S)
            _log.error("no append can be written: %s", str(error) or public_reason(error))
