"""Logging: structlog on stderr, as text or JSON; uvicorn logs through it too."""

from __future__ import annotations

import logging
import sys
import traceback
from typing import Final

import structlog

from ledger.core.lasting import SILENT_S, LastingByKey
from server.settings import Settings

log = structlog.get_logger("quire")

_REPEATING: Final = ("uvicorn.error", "asyncio")
"""Loggers whose messages anyone can cause, as often as they like: a request that is not HTTP, or
more connections than there are file descriptors."""


def _of_a_lost_connection(record: logging.LogRecord) -> bool:
    """Return whether asyncio reports an error of a lost connection that asyncpg did not retrieve."""
    if record.exc_info is None or not isinstance(record.exc_info, tuple):
        return False
    error = record.exc_info[1]
    return (
        "never retrieved" in record.getMessage()
        and isinstance(error, Exception)
        and type(error).__module__.startswith("asyncpg.")
        and type(error).__name__ in {"ConnectionDoesNotExistError", "ConnectionFailureError"}
    )


def _is_logged(record: logging.LogRecord) -> bool:
    return not _of_a_lost_connection(record)


class LoggedOnce(logging.Filter):
    """Logs the trouble that a library reports again and again as one lasting condition."""

    def __init__(self) -> None:
        super().__init__()
        self._trouble = LastingByKey(
            "the HTTP server reports trouble",
            "the HTTP server no longer reports trouble",
            silent_s=SILENT_S,
        )

    def filter(self, record: logging.LogRecord) -> bool:
        """Return False for a warning or an error, and log it if it is new or due again."""
        if record.levelno < logging.WARNING:
            return True
        report = log.error if record.levelno >= logging.ERROR else log.warning
        error = record.exc_info[1] if record.exc_info else None
        fields = {} if error is None else {"exc_info": error}
        # The pattern of the message, because its words may differ each time, and the place of the
        # error: another fault of the same type is another condition.
        key = (record.msg, type(error), _place_of(error))
        self._trouble.failed(key, report, record.getMessage().strip(), **fields)
        return False


def _place_of(error: BaseException | None) -> tuple[str, int] | None:
    """Return file and line at which an error was raised."""
    frames = traceback.extract_tb(error.__traceback__) if error is not None else []
    return (frames[-1].filename, frames[-1].lineno or 0) if frames else None


def configure(settings: Settings) -> None:
    """Set up logging according to the settings."""
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.typing.Processor
    if settings.log_format == "json":
        shared.append(structlog.processors.format_exc_info)
        renderer = structlog.processors.JSONRenderer()
    else:
        # Not the default traceback: it prints local variables, and some are keys.
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # The code that used the connection gets the error too, and logs what it means.
    quiet = logging.getLogger("asyncio")
    if _is_logged not in quiet.filters:
        quiet.addFilter(_is_logged)
    for name in _REPEATING:
        repeating = logging.getLogger(name)
        if not any(isinstance(one, LoggedOnce) for one in repeating.filters):
            repeating.addFilter(LoggedOnce())
    # asyncpg logs each attempt to reach a stopped database, with a traceback.
    logging.getLogger("asyncpg").setLevel(max(level, logging.CRITICAL))
    # uvicorn logs at "info" what the banner already says.
    logging.getLogger("uvicorn").setLevel(max(level, logging.WARNING))
