"""``GET /admin/compliance/verify/{log_id}`` with the integer ids that QWED gave its rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ledger.client import InvalidArgumentError, InvalidRequestError, LedgerClient, NotFoundError
from ledger.qwed import (
    QwedRow,
    QwedVerdict,
    TrailVerifier,
    correcting_event,
    imported_event,
)
from ledger.storage import qwed_rows
from ledger.storage.database import Database
from ledger.storage.entries.searching import block_rows
from ledger.storage.entries.searching.block_rows import BlockRange, InlineLimits
from ledger.storage.entries.searching.qwed_rows import STRETCH_BITS
from ledger.storage.qwed_rows import QwedRows
from tests.qwed_writer import SECRET, trail
from tests.support.blocks import edit
from tests.support.serving import Server
from tests.support.tampering import change, tamper


@pytest.fixture(params=["sealed", "plain"])
def client(request: pytest.FixtureRequest, shared_server: Server) -> Any:
    slug, key = shared_server.create_org(request.param)
    with LedgerClient(shared_server.url, key, slug) as client:
        yield client


def append(client: LedgerClient, rows: list[QwedRow], organization_id: int = 1) -> list[str]:
    """Import the rows as ``quire import qwed`` does; returns their record ids."""
    verifier = TrailVerifier(organization_id, [SECRET])
    events = [imported_event(organization_id, row, verifier.check(row)) for row in rows]
    return [receipt.record_id for receipt in client.append_many(events)]


def test_a_row_is_found_by_its_own_id(client: LedgerClient) -> None:
    client.append_many([{"note": f"before {n}"} for n in range(3)])
    records = append(client, trail(12))
    for row_id in (1, 2, 11, 12):
        verdict = client.verify_entry(row_id)
        assert verdict.valid
        assert verdict.record_id == records[row_id - 1]
        assert verdict.row is not None
        assert (verdict.row.row_id, verdict.row.organization_id) == (row_id, 1)
        assert (verdict.row.outcome, verdict.row.corrected_by) == ("valid", None)
    assert client.verify_entry(records[0]).row is None
    later = append(client, trail(14)[12:])  # rows imported after the first lookup are found too
    assert client.verify_entry("14").record_id == later[1]


@pytest.mark.parametrize("name", ["0", "13", "9" * 18, "9" * 19, "9" * 400, "1.0", "-1", "٣"])
def test_other_entries_are_not_found_by_row_id(client: LedgerClient, name: str) -> None:
    append(client, trail(12))
    client.append({"event_type": "login", "action": "qwed:1:13"})
    client.append({"event_type": "qwed.imported", "action": "qwed:1:13:x"})
    client.append({"event_type": "qwed.imported", "action": "note", "note": '"action":"qwed:1:13"'})
    with pytest.raises((NotFoundError, InvalidArgumentError)):
        client.verify_entry(name)


def test_a_broken_row_is_invalid_although_its_entry_is_valid(client: LedgerClient) -> None:
    rows = trail(3)
    rows[1] = replace(rows[1], query="altered")
    records = append(client, rows)
    verdict = client.verify_entry(2)
    assert not verdict.valid
    assert verdict.errors == ["row: QWED's row 2 is broken"]
    assert verdict.checks.hash_valid is True  # the entry's own record id
    assert client.verify_entry(records[1]).valid


def test_the_newest_correction_counts(client: LedgerClient) -> None:
    rows = trail(2)
    old = [QwedVerdict(row.id, None, True, True, ("Hash mismatch",)) for row in rows]
    records = [
        receipt.record_id
        for receipt in client.append_many(
            [imported_event(1, row, verdict) for row, verdict in zip(rows, old, strict=True)]
        )
    ]
    verifier = TrailVerifier(1, [SECRET])
    made = client.append(correcting_event(1, records[0], verifier.check(rows[0])))
    corrected = client.verify_entry(1)
    assert (corrected.valid, corrected.record_id) == (True, records[0])
    assert corrected.row is not None
    assert (corrected.row.outcome, corrected.row.corrected_by) == ("valid", made.record_id)
    assert not client.verify_entry(2).valid


def test_a_key_sees_the_rows_of_its_own_org_only(shared_server: Server) -> None:
    found = []
    for query in ("one", "two"):
        slug, key = shared_server.create_org("plain")
        with LedgerClient(shared_server.url, key, slug) as client:
            records = append(client, trail(2, query=query))
            found.append((records[0], client.verify_entry(1).record_id))
    assert all(own == seen for own, seen in found)
    with (
        LedgerClient(shared_server.url, shared_server.platform_key) as platform,
        pytest.raises(InvalidRequestError, match="use an API key of the org"),
    ):
        platform.verify_entry(1)


def test_an_id_of_two_organizations_is_refused_with_the_record_ids(client: LedgerClient) -> None:
    first = append(client, trail(2))
    second = append(client, trail(3, organization_id=2), 2)
    with pytest.raises(InvalidRequestError, match="several entries hold a row 1") as refused:
        client.verify_entry(1)
    assert first[0] in str(refused.value)
    assert second[0] in str(refused.value)
    assert client.verify_entry(3).record_id == second[2]


async def test_an_altered_entry_is_found_and_not_valid(shared_server: Server) -> None:
    slug, key = shared_server.create_org("plain")
    with LedgerClient(shared_server.url, key, slug) as client:
        append(client, trail(3))
        assert client.verify_entry(2).valid
        tamper(shared_server.database, slug, change(edit, 1, leaf=_altered))
        verdict = client.verify_entry(2)
    assert not verdict.valid
    assert verdict.checks.hash_valid is False


def _altered(leaf: bytes) -> bytes:
    return leaf[:-12] + b"\xff" + leaf[-11:]


async def test_a_row_is_found_by_reading_one_stretch(
    shared_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the trail's length, and however small the parts in which its index was read."""
    monkeypatch.setattr(qwed_rows, "WINDOW_SEQS", 700)  # no multiple of a stretch
    slug, key = shared_server.create_org("plain")
    with LedgerClient(shared_server.url, key, slug) as client:
        records = append(client, trail(3_000))
    database = await Database.open(shared_server.database.server_url, size=1)
    try:
        org_id = await database.fetchrow("SELECT id FROM orgs WHERE slug = $1", slug)
        assert org_id is not None
        rows = QwedRows(database)
        asked: list[tuple[int, int]] = []
        assert await rows.naming(org_id[0], 4_000) == []
        plain = block_rows.block_rows

        async def block_rows_of(connection: Any, part: BlockRange, inline: InlineLimits) -> Any:
            asked.append((part.first >> STRETCH_BITS, part.last >> STRETCH_BITS))
            return await plain(connection, part, inline)

        monkeypatch.setattr(block_rows, "block_rows", block_rows_of)
        for row_id in (1, 700, 701, 1_024, 1_025, 2_999, 3_000):
            asked.clear()
            found = await rows.naming(org_id[0], row_id)
            assert [entry.seq for entry in found] == [row_id - 1], records[row_id - 1]
            stretch = (row_id - 1) >> STRETCH_BITS
            assert set(asked) == {(stretch, stretch)}
    finally:
        await database.close()
