"""The database of a machine is made ready alike for the server and for commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from ledger.storage.database import Database
from ledger.storage.migrate import require_current
from server.process.database.own_database import DatabaseUrls, own_database
from server.settings import Settings
from server.settings.data_dir import DataDirBusy, DataDirLock, make_data_dir
from tests.support.clusters import blocking
from tests.support.serving import server_settings


def settings_of(data_dir: Path) -> Settings:
    return server_settings(make_data_dir(data_dir))


def require_ready(urls: DatabaseUrls) -> None:
    """Raises MigrationError where the server's role finds another schema than this code's."""

    async def look() -> None:
        database = await Database.open(urls.server, size=1)
        try:
            await require_current(database)
        finally:
            await database.close()

    blocking(look())


def test_a_command_uses_the_database_that_a_server_runs(data_dir: Path) -> None:
    settings = settings_of(data_dir)
    with own_database(settings, serves=True) as served:
        with own_database(settings) as attached:
            assert attached == served
        require_ready(served)  # the command has not stopped it
        with pytest.raises(DataDirBusy), own_database(settings, serves=True):
            pass
    with own_database(settings) as started:
        require_ready(started)
    with DataDirLock(settings.data_dir):  # and nothing holds it when it is over
        pass
