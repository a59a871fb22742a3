"""A database that a module's tests tamper with one after another."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.clusters import Cluster, Database
from tests.verification.database import Superuser
from tests.verification.signed import Signed


@pytest.fixture(scope="module")
def module_database(postgres_cluster: Cluster) -> Iterator[Database]:
    """A migrated database for one module."""
    database = postgres_cluster.migrated()
    yield database
    postgres_cluster.drop(database)


@pytest.fixture
async def superuser(module_database: Database) -> AsyncIterator[Superuser]:
    """A superuser at the module's database, with the trail laid anew."""
    superuser = await Superuser.of(module_database)
    await superuser.lay()
    yield superuser
    await superuser.close()


@pytest.fixture
async def signed(superuser: Superuser, tmp_path: Path) -> Signed:
    """The module's trail, signed and anchored anew."""
    signed = Signed(superuser, tmp_path / "signed.sqlite")
    await signed.sign()
    return signed
