"""Trails in blocks of a real database, verified by processes: each change at its place."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from ledger.chain import StoredEntry
from ledger.storage.copy_out import open_snapshot
from ledger.storage.entries import extent
from tests.support.trails import ORG_ID
from tests.verification.database import COUNT, HEAD, PLACES, ROWS, Superuser
from tests.verification.streams import blame

LAST = COUNT - 1


def changed(seqs: Sequence[int], **columns: Any) -> list[StoredEntry]:
    """The rows with other values in these columns at these seqs."""
    rows = [*ROWS]
    for seq in seqs:
        rows[seq] = rows[seq]._replace(**columns)
    return rows


@pytest.mark.parametrize(
    ("columns", "kinds"),
    [
        ({"signature": bytes(32)}, {"signature_invalid"}),
        ({"payload": b"other"}, {"payload_mismatch"}),
        ({"actor_tag": 77}, {"column_mismatch"}),
        ({"leaf": b"{}"}, {"hash_mismatch", "leaf_malformed"}),
    ],
)
async def test_an_entry_that_was_changed(
    superuser: Superuser, columns: dict[str, Any], kinds: set[str]
) -> None:
    await superuser.replace_rows(changed(PLACES, **columns))
    result = await superuser.verify()
    assert blame(result) == dict.fromkeys(PLACES, kinds)
    assert (result.total_entries, result.failed_entries) == (COUNT, len(PLACES))


@pytest.mark.parametrize(("first", "last"), [(0, 0), (400, 420), (1_023, 1_024), (500, 2_500)])
async def test_removed(superuser: Superuser, first: int, last: int) -> None:
    await superuser.replace_rows([*ROWS[:first], *ROWS[last + 1 :]])
    result = await superuser.verify()
    assert blame(result) == {first: {"missing"}}
    assert (result.fault_count, result.failed_entries) == (1, last - first + 1)


async def test_the_tail_cut_and_all_removed(superuser: Superuser) -> None:
    for left in (0, 1, 1_024, LAST):
        await superuser.replace_rows(ROWS[:left])
        assert blame(await superuser.verify()) == {left: {"truncated" if left else "wiped"}}


async def test_second_blocks(superuser: Superuser) -> None:
    late = timedelta(hours=1)
    copies = [ROWS[seq]._replace(anchored_at=ROWS[seq].anchored_at + late) for seq in PLACES]
    forged = [
        ROWS[seq]._replace(anchored_at=ROWS[0].anchored_at - late, leaf=b"{}", signature=bytes(32))
        for seq in (17, 2_047, 3_072)
    ]
    await superuser.replace_rows([*ROWS, *copies, *forged])
    found = blame(await superuser.verify())
    assert {seq for seq, kinds in found.items() if "duplicate_seq" in kinds} == set(PLACES)
    assert {seq for seq, kinds in found.items() if "inserted" in kinds} == {17, 2_047, 3_072}
    assert len(found) == len(PLACES) + 3


async def test_a_huge_gap_is_skipped(superuser: Superuser) -> None:
    far = (1 << 39) + 5
    await superuser.replace_rows([*ROWS[:-1], ROWS[-1]._replace(seq=far)])
    await superuser.execute("UPDATE heads SET seq = 1::bigint << 40, entry_hash = sha256('x')")
    found = blame(await superuser.verify())
    assert found == {LAST: {"missing"}, far: {"seq_mismatch"}, far + 1: {"truncated"}}


async def test_ranges_cut_blocks(superuser: Superuser) -> None:
    await superuser.replace_rows(changed([1_200], signature=bytes(32)))
    for first, last in ((100, 1_199), (1_201, None), (0, 1_199), (1_201, 1_201)):
        assert (await superuser.verify(from_seq=first, to_seq=last)).valid
    for first, last in ((1_200, None), (1_100, 1_300), (1_200, 1_200)):
        assert set(blame(await superuser.verify(from_seq=first, to_seq=last))) == {1_200}


async def test_which_seqs_are_stored(superuser: Superuser) -> None:
    await superuser.replace_rows([*ROWS[:300], *ROWS[400:500], *ROWS[700:]])
    url = superuser.database.server_url
    async with open_snapshot(url) as snapshot:
        newest = await snapshot.newest(ORG_ID)
        assert newest == extent.NewestRow(LAST, HEAD.entry_hash, ROWS[-1].leaf)
        nexts = [await snapshot.next_seq(ORG_ID, after) for after in (-1, 298, 299, 350, 499, LAST)]
        assert nexts == [0, 299, 400, 400, 700, None]
        assert await snapshot.planted(ORG_ID, 3, 100) == [0, 1, 2]
        assert await snapshot.planted(ORG_ID, 410, 2_000) == [*range(300), *range(400, 410)]
        assert await snapshot.planted(ORG_ID, 410, 4) == [0, 1, 2, 3]
        assert await snapshot.written_us(ORG_ID, 299) == HEAD.anchored_us
        assert await snapshot.written_us(ORG_ID, 300) is None
        assert await snapshot.written_us(ORG_ID, LAST) == HEAD.anchored_us
