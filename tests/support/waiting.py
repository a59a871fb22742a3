"""Waiting for a condition in a test, with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

PATIENCE_S = 60.0


def until(reached: Callable[[], Any], what: str = "it did not come") -> None:
    """Wait until ``reached`` is true; at the deadline it fails with the message ``what``."""
    deadline = time.monotonic() + PATIENCE_S
    while not reached():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)
