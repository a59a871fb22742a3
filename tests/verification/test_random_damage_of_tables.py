"""Random single-bit changes of the tables beside the entries: no trail is called verified.

Each column that a verification compares with a signature, or with what is signed. The others hold
nothing that is signed: names, times of rows, the state of signer and freezes. DAMAGES is a factor
on the number of changes; `make test-damage` raises it.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any, Final

import asyncpg
import pytest

from ledger.core.verification import run
from ledger.core.verification.run import TrailRange, verify_trail
from ledger.core.verification.work.faults import Result
from ledger.core.verification.work.trust import TrailTrust
from ledger.errors import KeyHistoryError
from tests.support.changes import bit_flipped
from tests.support.evidence_damage import SCALE
from tests.support.trails import ORG_ID, RING
from tests.support.worker_in_process import crew_in_process
from tests.verification.database import HEAD, ROWS, Superuser
from tests.verification.signed import KEYS, SignedTree

TRIES: Final = 24 * SCALE
COUNT: Final = 1_400
COLUMNS: Final = {
    "orgs": ("slug",),
    "heads": ("org_id", "seq", "entry_hash", "anchored_at"),
    "trees": ("org_id", "size", "root"),
    "tile_parts": ("org_id", "level", "tile", "start", "hashes"),
    "checkpoints": ("org_id", "size", "root", "note"),
    "anchor_leaves": ("idx", "org_id", "size", "nonce", "leaf"),
}
BITS: Final = {"level": 16, "start": 16}
"""Bits of a column that has fewer than 64 of a number."""
ANY: Final = [(table, column) for table, columns in COLUMNS.items() for column in columns]
Record = Callable[[str, object], None]


@pytest.fixture
async def signed(superuser: Superuser, tmp_path: Any) -> SignedTree:
    """A trail with two checkpoints and two anchors, whose tables take any value."""
    head = HEAD._replace(seq=COUNT - 1, entry_hash=ROWS[COUNT - 1].entry_hash)
    await superuser.replace_rows(ROWS[:COUNT], head)
    await superuser.execute("ALTER TABLE tile_parts DROP CONSTRAINT tile_parts_start_check")
    signed = SignedTree(superuser, tmp_path / "signed.sqlite")
    await signed.sign(2)
    return signed


async def verified(signed: SignedTree) -> Result:
    """Verify the org's trail under the slug that the database has for it."""
    ((slug,),) = await signed.fetch("SELECT slug FROM orgs WHERE id = $1", ORG_ID)
    target, trust = TrailRange(ORG_ID, slug), TrailTrust.of(KEYS.public(), slug)
    url = signed.superuser.database.server_url
    return await verify_trail(url, target, RING, trust=trust, processes=1)


class ChangedRow:
    """A value of a random row, to be changed and put back."""

    def __init__(self, signed: SignedTree, random: Random) -> None:
        self.table, self.column = random.choice(ANY)
        self._random = random
        self._connection = signed.superuser.connection

    async def change(self) -> bool:
        """Flip a bit; returns False where a key refuses the new value."""
        rows = await self._connection.fetch(
            f"SELECT ctid, {self.column} FROM {self.table} {self._where}"
        )
        self._place, self._old = self._random.choice(rows)
        try:
            await self._set(self._flipped(self._old))
        except asyncpg.UniqueViolationError:
            return False
        return True

    @property
    def _where(self) -> str:
        """Only the newest, of rows that a restore may have lost: anchors, and the orgs of leaves."""
        newest = "size = (SELECT max(size) FROM {} WHERE org_id = {})"
        if (self.table, self.column) == ("checkpoints", "org_id"):
            return f"WHERE org_id <> 0 OR {newest.format(self.table, 0)}"
        if (self.table, self.column) == ("anchor_leaves", "org_id"):
            return f"WHERE {newest.format(self.table, ORG_ID)}"
        return ""

    def _flipped(self, old: Any) -> Any:
        if isinstance(old, str):
            at = self._random.randrange(len(old))
            return f"{old[:at]}{chr(ord(old[at]) ^ 1 << self._random.randrange(4))}{old[at + 1 :]}"
        if self.column in BITS:
            number = old ^ 1 << self._random.randrange(BITS[self.column])
            return number - (1 << 16 if number >> 15 else 0)
        return bit_flipped(old, self._random.randrange(1 << 20))

    async def _set(self, value: Any) -> None:
        self._place = await self._connection.fetchval(
            f"UPDATE {self.table} SET {self.column} = $2 WHERE ctid = $1 RETURNING ctid",
            self._place,
            value,
        )

    async def put_back(self) -> None:
        """Restore the value of before."""
        await self._set(self._old)


async def test_no_random_bit_is_called_verified(
    signed: SignedTree, monkeypatch: pytest.MonkeyPatch, record_property: Record
) -> None:
    assert (await verified(signed)).valid, "in processes of their own"
    monkeypatch.setattr(run, "crew_of", crew_in_process)
    assert (await verified(signed)).valid
    random = Random(1)
    tried: Counter[str] = Counter()
    while tried.total() < TRIES:
        row = ChangedRow(signed, random)
        if not await row.change():
            continue
        where = f"{row.table}.{row.column}"
        with contextlib.suppress(KeyHistoryError):  # a slug that no org can have
            assert (await verified(signed)).verdict != "verified", where
        await row.put_back()
        tried[where] += 1
    assert (await verified(signed)).valid
    record_property("columns", dict(tried))
