"""Logging: structlog on stderr, as text or JSON; uvicorn logs through it too."""

from __future__ import annotations

import logging
import sys

import structlog

from server.settings import Settings


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
    # asyncpg logs each attempt to reach a stopped database, with a traceback.
    logging.getLogger("asyncpg").setLevel(max(level, logging.CRITICAL))
    # uvicorn logs at "info" what the banner already says.
    logging.getLogger("uvicorn").setLevel(max(level, logging.WARNING))
