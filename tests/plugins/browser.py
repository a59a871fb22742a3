"""Fixtures: one headless Chromium for the session, and the offline page in it.

Tests that use them carry `xdist_group("browser")`, so that one worker process starts it.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.browser import Browser, browser
from tests.support.offline_page import OfflinePage


@pytest.fixture(scope="session")
def browser_window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """The browser's window; each test opens its own page in it."""
    with browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@pytest.fixture
def offline_page(browser_window: Browser, tmp_path: Path) -> OfflinePage:
    """The page, freshly opened, with an empty console."""
    page = OfflinePage(browser_window, tmp_path)
    page.open()
    browser_window.console()
    return page
