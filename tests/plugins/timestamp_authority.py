"""Fixtures: a real RFC 3161 authority on loopback."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.timestamp_authority import Mode, TimestampAuthority, running_authority


@pytest.fixture(scope="session")
def shared_authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TimestampAuthority]:
    """One authority for the session; no test changes its mode."""
    with running_authority(tmp_path_factory.mktemp("tsa") / "authority") as authority:
        yield authority


@pytest.fixture
def timestamp_authority(tmp_path: Path) -> Iterator[TimestampAuthority]:
    """An authority for one test; it answers correctly until `.mode` is set."""
    with running_authority(tmp_path / "authority") as authority:
        authority.mode = Mode.GOOD
        yield authority
