"""An archive's org.json is not signed: altering it loses no privacy."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from ledger.archive.format.layout import ORG as ORG_KEY
from ledger.archive.reading.reader import ArchiveReader
from ledger.archive.restore.run import Restore
from ledger.archive.targets import Target
from ledger.errors import RestoreRefused
from tests.support.archives import SignedTrail
from tests.support.clusters import Cluster, Database
from tests.support.restoring import restore_inputs, restored
from tests.support.serving import Server
from tests.support.signing import fetch
from tests.support.trails import ORG


@pytest.fixture
def migrated_database(postgres_cluster: Cluster) -> Iterator[Database]:
    """A migrated database without rows."""
    database = postgres_cluster.migrated()
    yield database
    postgres_cluster.drop(database)


async def replace_org_json(folder: Target, org: str, **said: object) -> None:
    """Replace org.json, as anyone with write access to the target can."""
    about = await ArchiveReader(folder, org).about()
    changed = msgspec.structs.replace(about, **said)
    await folder.put_pointer(f"{org}/{ORG_KEY}", changed.encode(), None, False)


async def test_a_sealed_org_is_not_restored_as_plain(
    server: Server, sealed_records: list[str], folder: Target, migrated_database: Database
) -> None:
    await replace_org_json(folder, server.org, privacy="plain")
    with pytest.raises(RestoreRefused, match="sealed"):
        await restored(server, folder, migrated_database)
    await replace_org_json(folder, server.org, privacy="sealed")
    await restored(server, folder, migrated_database)


async def test_an_unknown_privacy_is_refused(
    archived_trail: SignedTrail, folder: Target, migrated_database: Database
) -> None:
    await archived_trail.grow(5)
    await archived_trail.archive(folder)
    await replace_org_json(folder, ORG, privacy="open")
    with pytest.raises(RestoreRefused, match="privacy"):
        await Restore(folder, migrated_database.owner_url, restore_inputs()).run([ORG])


async def test_no_log_is_restored_as_public(
    archived_trail: SignedTrail, folder: Target, migrated_database: Database
) -> None:
    await archived_trail.grow(5)
    await archived_trail.archive(folder)
    await replace_org_json(folder, ORG, log_public=True)
    (one,) = await Restore(folder, migrated_database.owner_url, restore_inputs()).run([ORG])
    assert one.was_public
    assert [row[0] for row in await fetch(migrated_database, "SELECT log_public FROM orgs")] == [
        False
    ]
