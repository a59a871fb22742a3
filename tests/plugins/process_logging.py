"""A test that configures the logging of its process restores it: later tests look at log lines."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog


@pytest.fixture(autouse=True)
def logging_stays() -> Iterator[None]:
    """Make a test fail that leaves structlog configured as a server does."""
    yield
    if structlog.get_config()["cache_logger_on_first_use"]:
        structlog.reset_defaults()
        pytest.fail("this test configured logging: wrap it in tests.support.restored_logging")
