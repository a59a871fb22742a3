"""asyncio's reports of lost connections are left out of the log; its other reports are not."""

from __future__ import annotations

import logging

import asyncpg
import pytest

from server.process.logs import _is_logged


def record(message: str, error: BaseException | None) -> logging.LogRecord:
    raised = None if error is None else (type(error), error, None)
    return logging.LogRecord("asyncio", logging.ERROR, "", 0, message, None, raised)


@pytest.mark.parametrize(
    ("message", "error", "kept"),
    [
        ("Future exception was never retrieved", asyncpg.ConnectionDoesNotExistError("x"), False),
        ("Task exception was never retrieved", asyncpg.ConnectionDoesNotExistError("x"), False),
        ("Task exception was never retrieved", asyncpg.UniqueViolationError("x"), True),
        ("Task exception was never retrieved", RuntimeError("x"), True),
        ("Future exception was never retrieved", None, True),
        ("Unclosed transport", asyncpg.ConnectionDoesNotExistError("x"), True),
    ],
)
def test_only_lost_connections_are_is_logged(
    message: str, error: BaseException | None, kept: bool
) -> None:
    assert _is_logged(record(message, error)) is kept
