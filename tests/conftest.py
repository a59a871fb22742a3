"""Loads every fixture module of `tests/plugins`; under CI=true, turns what did not run into failure."""

import os
import signal
from collections.abc import Generator
from pathlib import Path

import pytest

pytest_plugins = sorted(
    f"tests.plugins.{module.stem}"
    for module in (Path(__file__).parent / "plugins").glob("*.py")
    if module.stem != "__init__"
)

# A shell ignores SIGINT for what it runs in the background, and children inherit that:
# tests that press Ctrl-C would press in vain.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Locally a skip is a convenience; in CI it would be a green run that proved nothing.
MUST_RUN = os.environ.get("CI", "").lower() in {"1", "true"}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test skipped, or expected to fail, is a failed one."""
    report = yield
    if MUST_RUN and report.skipped:
        _fail(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A module skipped while it is collected is a failed one."""
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
