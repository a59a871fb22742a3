"""Which cases of a test `make test` leaves to `make test-slow`, and which share a worker process."""

from __future__ import annotations

from typing import Any

import pytest


def slow(*values: Any) -> Any:
    """Return a case of a parametrized test that only the slow ring runs: others cover the same."""
    return pytest.param(*values, marks=pytest.mark.slow)


def shares_of_module(item: pytest.Item) -> bool:
    """Return whether a test uses a fixture that its module sets up once."""
    if not isinstance(item, pytest.Function):
        return False
    fixtures = item._fixtureinfo.name2fixturedefs.values()
    return any(definition.scope == "module" for found in fixtures for definition in found)
