"""The archiver's reports on an org that it could not archive: alarms only if a person must act."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from ledger.archive.writing.writer import ArchiveWriter
from ledger.errors import ArchiveDenied, DatabaseAway, DatabaseUnavailable, QuireError
from ledger.storage.database import Database
from ledger.storage.trees import ANCHOR_LOG
from server.process.archiver import Archiver
from tests.support import clusters
from tests.support.serving import server_settings

LOST = DatabaseAway("the database can't do this now: connection was closed")
BROKEN = DatabaseUnavailable("the database can't do this now: permission denied for table trees")
DENIED = ArchiveDenied("the bucket refuses to write")


class FailingWriter:
    """A writer that fails as if its database or target were lost during its work."""

    def __init__(self, error: QuireError) -> None:
        self._error = error

    async def archive_anchors(self) -> Any:
        raise self._error


@pytest.mark.parametrize(
    ("error", "level", "event"),
    [
        (LOST, "info", "archiving waits for the database"),
        (BROKEN, "error", "nothing is archived"),
        (DENIED, "error", "nothing is archived"),
    ],
)
async def test_a_database_that_is_restarted_is_no_alarm(
    database: clusters.Database, tmp_path: Path, error: QuireError, level: str, event: str
) -> None:
    archiver = Archiver(server_settings(tmp_path), database.server_url)
    writer = cast("ArchiveWriter", FailingWriter(error))
    opened = await Database.open(database.server_url, size=1)
    try:
        with capture_logs() as logs:
            await archiver._archive_log(opened, "file:///archive", writer, ANCHOR_LOG)
    finally:
        await opened.close()
    assert [(line["log_level"], line["event"]) for line in logs] == [(level, event)]
