"""Imported QWED rows are found by their ids after their month was dropped from the database."""

from __future__ import annotations

import asyncio
from datetime import date

import msgspec

from ledger.archive.targets import Target
from ledger.chain import Draft, extend
from ledger.core.reading.past import ArchivePast
from ledger.core.reading.qwed_rows import FoundRow, QwedRowFinder
from ledger.core.reading.trail import TrailReader
from tests.support.archives import SignedTrail
from tests.support.retaining import FEBRUARY, JANUARY, MARCH, moment, retaining, set_retention
from tests.support.trails import KEY, ORG, ORG_ID, draft


def about_row(row_id: int, kind: str, outcome: str) -> Draft:
    """The draft that an import makes for a row of organization 1."""
    payload = f"{kind} {row_id}".encode()
    return msgspec.structs.replace(
        draft(payload),
        action=f"qwed:1:{row_id}",
        event_type=f"qwed.{kind}",
        outcome=outcome,
    )


async def append(archived_trail: SignedTrail, month: date, drafts: list[Draft]) -> None:
    rows, archived_trail.head = extend(ORG_ID, ORG, archived_trail.head, drafts, moment(month), KEY)
    archived_trail.rows += rows
    await archived_trail.put_rows(rows)
    await archived_trail.grow(1, now_us=moment(month) + 1_000_000)


async def test_a_row_is_found_in_the_archive_with_its_live_correction(
    archived_trail: SignedTrail, folder: Target
) -> None:
    imported = [about_row(row_id, "imported", "broken") for row_id in range(1, 41)]
    await append(archived_trail, JANUARY, imported[:30])
    await append(archived_trail, FEBRUARY, imported[30:])
    await append(archived_trail, MARCH, [about_row(7, "corrected", "valid")])
    await archived_trail.archive(folder)
    reader = TrailReader(archived_trail.server, ArchivePast(archived_trail.server, folder.url))
    finder = QwedRowFinder(archived_trail.server, reader)
    try:
        before = await all_rows(finder)
        await set_retention(archived_trail, 1)
        async with retaining(archived_trail, folder) as retention:
            assert await retention.drop_month(JANUARY) is not None
        assert await all_rows(finder) == before
    finally:
        await asyncio.shield(reader.close())
    assert (before[7].outcome, before[7].corrected_by is not None) == ("valid", True)
    assert (before[8].outcome, before[8].corrected_by) == ("broken", None)


async def all_rows(finder: QwedRowFinder) -> dict[int, FoundRow]:
    found = {}
    for row_id in (1, 7, 8, 30, 31, 40):
        (found[row_id],) = await finder.find(ORG_ID, str(row_id))
    assert await finder.find(ORG_ID, "41") == []
    return found
