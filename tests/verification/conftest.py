"""Fixtures: a module's database for tampering, with a plain and a signed trail."""

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from ledger.core.verification.rows.borders import BlockBorders
from tests.support.clusters import Database
from tests.verification.database import TREES, Superuser
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


@pytest.fixture(scope="module")
def kept_memory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of the signer's memory of the module's trail, from its first signature on."""
    return tmp_path_factory.mktemp("signer") / "signed.sqlite"


@pytest.fixture
async def signed(superuser: Superuser, tmp_path: Path, kept_memory: Path) -> SignedTree:
    """The module's trail, signed and anchored; the first test's signatures are put back."""
    signed = SignedTree(superuser, tmp_path / "signed.sqlite")
    if await superuser.put_back(*TREES):
        shutil.copy(kept_memory, signed.memory)
    else:
        await signed.sign()
        await superuser.keep(*TREES)
        shutil.copy(signed.memory, kept_memory)
    return signed
