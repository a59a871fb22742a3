"""Loads every fixture module of `tests/plugins`; with CI=true a skipped test is a failure."""

import gc
import os
import signal
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.support.rings import shares_of_module

pytest_plugins = sorted(
    f"tests.plugins.{module.stem}"
    for module in (Path(__file__).parent / "plugins").glob("*.py")
    if module.stem != "__init__"
)

# A shell makes background commands ignore SIGINT, and their children inherit that:
# in tests that send Ctrl-C the signal would have no effect.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Locally a skip is a convenience; in CI it would be a green run without the test.
MUST_RUN = os.environ.get("CI", "").lower() in {"1", "true"}


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep the garbage collector away from the collected tests, which live until the end.

    Half of the time of the collection was its visits of them, and each later full visit, in every
    worker process, visited all of them again.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Send the tests that share a fixture of their module to one worker process.

    Each worker process would set up a server, a database or a signed trail for its part of them.
    """
    for item in items:
        if item.get_closest_marker("xdist_group") is None and shares_of_module(item):
            module = item.nodeid.partition("::")[0].removeprefix("tests/").removesuffix(".py")
            item.add_marker(pytest.mark.xdist_group(module))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Make a test fail that was skipped, or that failed as expected."""
    report = yield
    if MUST_RUN and report.skipped:
        _fail(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Make a module fail that was skipped while it was collected."""
    report = yield
    if MUST_RUN and report.skipped:
        _fail(report)
    return report


def _fail(report: pytest.TestReport | pytest.CollectReport) -> None:
    reason = getattr(report, "wasxfail", None) or report.longreprtext or report.longrepr
    if hasattr(report, "wasxfail"):
        del report.wasxfail
    report.outcome = "failed"
    report.longrepr = f"CI=true allows no skips and no expected failures: {reason}"
