"""The logging of a process that a test configures as a server does, and leaves as it was."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from structlog._config import BoundLoggerLazyProxy


@contextmanager
def restored_logging() -> Iterator[logging.Logger]:
    """Yield the root logger; afterwards handlers, levels, filters and structlog are as before.

    Otherwise later tests of the same process log to a handler that they do not look at.
    """
    root = logging.getLogger()
    loggers = [root, *(logging.getLogger(name) for name in ("asyncio", "uvicorn.error"))]
    loggers += [logging.getLogger(name) for name in ("asyncpg", "uvicorn")]
    before = [(each, each.handlers[:], each.level, each.filters[:]) for each in loggers]
    structlog.reset_defaults()
    try:
        yield root
    finally:
        for each, handlers, level, filters in before:
            each.handlers[:], each.level, each.filters[:] = handlers, level, filters
        structlog.reset_defaults()
        for logger in _loggers_of_modules():
            vars(logger).pop("bind", None)


def _loggers_of_modules() -> list[BoundLoggerLazyProxy]:
    """Return the modules' loggers: each keeps the configuration of its first use."""
    modules = [module for module in sys.modules.values() if hasattr(module, "__dict__")]
    values = [value for module in modules for value in vars(module).values()]
    return [value for value in values if isinstance(value, BoundLoggerLazyProxy)]
