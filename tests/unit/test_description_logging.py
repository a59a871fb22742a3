"""Generating the API's description does not change the logging of the process."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.app.application import description
from server.process import logs
from server.settings import Settings


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield root
    root.handlers[:], root.level = handlers, level


def test_the_first_request_for_the_description_leaves_the_log_as_it_is(
    root_logger: logging.Logger, tmp_path: Path
) -> None:
    logs.configure(Settings(data_dir=tmp_path, log_format="json"))
    handlers, level = root_logger.handlers[:], root_logger.level
    description()
    assert (root_logger.handlers, root_logger.level) == (handlers, level)
    assert not logging.getLogger("litestar").handlers
