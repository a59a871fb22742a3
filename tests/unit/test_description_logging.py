"""Generating the API's description does not change the logging of the process."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from server.app.application import description
from server.process import logs
from server.settings import Settings
from tests.support.restored_logging import restored_logging


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    """The root logger, which is restored after the test."""
    with restored_logging() as root:
        yield root


def test_the_first_request_for_the_description_leaves_the_log_as_it_is(
    root_logger: logging.Logger, tmp_path: Path
) -> None:
    logs.configure(Settings(data_dir=tmp_path, log_format="json"))
    handlers, level = root_logger.handlers[:], root_logger.level
    description()
    assert (root_logger.handlers, root_logger.level) == (handlers, level)
    assert not logging.getLogger("litestar").handlers


def test_a_module_s_logger_that_was_used_meanwhile_is_captured_again(tmp_path: Path) -> None:
    with restored_logging():
        logs.configure(Settings(data_dir=tmp_path, log_format="json"))
        logs.log.info("used")
    with capture_logs() as lines:
        logs.log.info("captured")
    assert [line["event"] for line in lines] == ["captured"]
