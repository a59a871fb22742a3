"""Fixtures: a module's database for tampering, with a plain and a signed trail."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from ledger.core.verification.rows.borders import BlockBorders
from tests.support.clusters import Database
from tests.verification.database import Superuser
from tests.verification.signed import SignedTree


@pytest.fixture(scope="module")
def any_borders() -> Iterator[None]:
    """The tests of a module cut blocks anywhere: only the faults of entries are looked at."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BlockBorders, "follow", lambda self, run: [])
        yield


@pytest.fixture
async def superuser(database_of_module: Database) -> AsyncIterator[Superuser]:
    """A superuser's connection to the module's database, with the trail written again."""
    superuser = await Superuser.of(database_of_module)
    await superuser.replace_rows()
    yield superuser
    await superuser.close()


@pytest.fixture
async def signed(superuser: Superuser, tmp_path: Path) -> SignedTree:
    """The module's trail, signed and anchored again."""
    signed = SignedTree(superuser, tmp_path / "signed.sqlite")
    await signed.sign()
    return signed
