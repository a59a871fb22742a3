"""Whether appends can be written now: by what became of the last ones, else by a probe.

Under load nothing is probed, as each commit proves that writes are taken. An idle server writes a
probe when it is asked, once a second at most. One failure is no verdict: it is tried again for
two seconds, so that a failover or a dropped connection raises no alarm.
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
"""For so long a commit, or the answer to a probe, counts."""
HICCUP_S: Final = 2.0
ANSWER_S: Final = 3.0
"""Whoever asks has an answer after this time."""
PAUSE_S: Final = 0.25
STANDING_S: Final = 15.0
"""For so long after it an append that failed counts, where a probe would succeed."""
FIRST_WORD_S: Final = 60.0


class AppendHealth:
    """What became of the last appends and probes of one process."""

    def __init__(self, probe: Callable[[], Awaitable[None]]) -> None:
        self._probe = probe
        self._committed_at = float("-inf")
        self._standing: tuple[float, str] | None = None
        self._failing_since: float | None = None
        self._answer: tuple[float, str | None] = (float("-inf"), None)
        self._asking = asyncio.Lock()
        self._said_at = 0.0
        self._say_after_s = 0.0

    def committed(self) -> None:
        """A transaction with entries was committed."""
        self._committed_at = time.monotonic()
        self._standing = None

    def failed(self, error: BaseException) -> None:
        """An append was not written. Only what a probe would not meet is kept."""
        if is_of_the_schema(error):
            self._standing = (time.monotonic(), public_reason(error))

    async def trouble(self) -> str | None:
        """Why no append can be written now, for anybody to read; None where it can."""
        async with self._asking:
            now = time.monotonic()
            if now - self._committed_at < FRESH_S:
                self._fine()
                return None
            if now - self._answer[0] >= FRESH_S:
                self._answer = await self._ask()
            return self._answer[1]

    async def _ask(self) -> tuple[float, str | None]:
        began = time.monotonic()
        while True:
            error = await self._try(began + ANSWER_S - time.monotonic())
            now = time.monotonic()
            if error is None:
                return now, self._standing_trouble(now)
            if self._failing_since is None:
                self._failing_since = began
            if now - self._failing_since >= HICCUP_S or now + PAUSE_S >= began + ANSWER_S:
                self._say(error, now)
                return now, public_reason(error)
            await asyncio.sleep(PAUSE_S)

    async def _try(self, limit_s: float) -> BaseException | None:
        try:
            async with asyncio.timeout(limit_s):
                await self._probe()
        except (QuireError, TimeoutError) as error:
            return error
        self._fine()
        return None

    def _standing_trouble(self, now: float) -> str | None:
        if self._standing is None or now - self._standing[0] >= STANDING_S:
            return None
        return self._standing[1]

    def _fine(self) -> None:
        if self._say_after_s:
            _log.warning("appends can be written again")
        self._failing_since, self._say_after_s = None, 0.0

    def _say(self, error: BaseException, now: float) -> None:
        """Log it: at first, and then at growing intervals for as long as it lasts."""
        if now - self._said_at >= self._say_after_s:
            self._said_at = now
            self._say_after_s = max(self._say_after_s * 2, FIRST_WORD_S)
            _log.error("no append can be written: %s", str(error) or public_reason(error))
