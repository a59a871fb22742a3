"""Fixtures: a trail to be archived, and a folder to archive it in."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ledger.archive.targets import Target, open_target
from tests.support.archives import Archived, signed_trail
from tests.support.clusters import Database


@pytest.fixture
async def archived_trail(database: Database, tmp_path: Path) -> AsyncIterator[Archived]:
    """An org whose trail is empty."""
    async with signed_trail(database, tmp_path / "signed.sqlite") as archived:
        yield archived


@pytest.fixture
async def folder(tmp_path: Path) -> AsyncIterator[Target]:
    """An open folder target; its files are in `tmp_path / "archive"`."""
    async with open_target(f"file://{tmp_path}/archive") as target:
        await target.check()
        yield target
