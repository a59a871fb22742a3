"""asyncio's reports of lost connections are left out of the log; its other reports are not."""

from __future__ import annotations

import logging

import asyncpg
import pytest
from structlog.testing import capture_logs

from server.process.logs import LoggedOnce, _is_logged


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


def noise(message: str, error: BaseException | None = None) -> logging.LogRecord:
    raised = None if error is None else (type(error), error, None)
    level = logging.ERROR if error else logging.WARNING
    return logging.LogRecord("uvicorn.error", level, "", 0, message, None, raised)


def test_what_anyone_can_cause_is_logged_once() -> None:
    once = LoggedOnce()
    with capture_logs() as lines:
        kept = [once.filter(noise("Invalid HTTP request received.")) for _ in range(100)]
        once.filter(noise("Exceeded concurrency limit."))
        for _ in range(10):
            once.filter(noise("Exception in ASGI application\n", RuntimeError("x")))
    assert not any(kept)
    assert [(line["log_level"], line["reason"]) for line in lines] == [
        ("warning", "Invalid HTTP request received."),
        ("warning", "Exceeded concurrency limit."),
        ("error", "Exception in ASGI application"),
    ]
    assert isinstance(lines[-1]["exc_info"], RuntimeError)
    assert once.filter(logging.LogRecord("uvicorn.error", logging.INFO, "", 0, "x", None, None))


def raised_at(*places: str) -> list[BaseException]:
    """Errors of one type, each raised on a line of its own."""
    errors: list[BaseException] = []
    for number, place in enumerate(places):
        try:
            exec("\n" * number + "raise RuntimeError(place)", {"place": place})
        except RuntimeError as error:
            errors.append(error)
    return errors


def test_another_fault_of_the_same_type_is_logged_too() -> None:
    once = LoggedOnce()
    with capture_logs() as lines:
        for error in raised_at("here", "there") * 3:
            once.filter(noise("Exception in ASGI application\n", error))
    assert [str(line["exc_info"]) for line in lines] == ["here", "there"]
