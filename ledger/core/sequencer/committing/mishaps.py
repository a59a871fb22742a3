"""Exceptions in the steps around a commit: each is counted and logged, and ends no committer."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Any, Final

from ledger.core.lasting import Lasting

_log = logging.getLogger("quire")

SILENT_S: Final = 60.0

OnMishap = Callable[[str], None]
"""Called with the step (``settle``, ``observe``, ``health``, ``release`` or ``turn``) that raised."""


class StepGuard:
    """Runs a committer's steps around the commit, and keeps their exceptions from ending it."""

    def __init__(self, count: OnMishap | None) -> None:
        self._count = count
        self._lasting = Lasting(
            "an append transaction met an internal error before or after its commit",
            "append transactions no longer meet internal errors",
            silent_s=SILENT_S,
        )

    @contextlib.contextmanager
    def caught(self, step: str) -> Iterator[None]:
        """Log and count any exception of the block, except a cancellation."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - a committer outlives every exception
            self.report(step, error)

    def report(self, step: str, error: Exception) -> None:
        """Log and count one exception; raises nothing, even if counting it fails."""
        try:
            if self._count is not None:
                self._count(step)
        except Exception:  # noqa: BLE001 - counting must not end a committer either
            _log.exception("an internal error could not be counted")
        reason = str(error) or "it has no text, see the traceback"
        self._lasting.failed(_with_traceback(error), reason, step=step)


def _with_traceback(error: Exception) -> Callable[..., None]:
    """Returns a report that logs with the traceback of this exception."""

    def report(event: str, **fields: Any) -> None:
        named = ", ".join(f"{name}: {value}" for name, value in fields.items())
        _log.error("%s (%s)", event, named, exc_info=error)

    return report
