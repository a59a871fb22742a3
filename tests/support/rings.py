"""The rings of the suite: which cases of a test `make test` leaves to `make test-slow`."""

from __future__ import annotations

from typing import Any

import pytest


def slow(*values: Any) -> Any:
    """Return a case of a parametrized test that only the slow ring runs: others cover the same."""
    return pytest.param(*values, marks=pytest.mark.slow)
