"""``quire import qwed`` against a running server, from real databases."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from ledger.client import LedgerClient
from ledger.qwed import QwedRow, TrailVerifier
from tests.qwed_writer import (
    COLUMNS,
    POSTGRES_TABLE,
    SECRET,
    entry,
    insert,
    trail,
    values,
    write_sqlite,
)
from tests.support.clusters import Database
from tests.support.qwed_import import Org
from tests.support.serving import Server


@pytest.fixture(params=["sealed", "plain"])
def org(request: pytest.FixtureRequest, shared_server: Server) -> Iterator[Org]:
    slug = f"qwed-{uuid4().hex[:12]}"
    with LedgerClient(shared_server.url, shared_server.platform_key) as platform:
        platform.create_org(slug, "QWED", request.param)
        key = platform.create_key("import", "admin", org=slug).key
    with LedgerClient(shared_server.url, key, slug) as client:
        yield Org(shared_server.url, slug, client, key)


@pytest.fixture
def rows() -> list[QwedRow]:
    """Two legacy rows, then four current ones, of two users."""
    made = trail(2, form="legacy")
    for row_id in range(3, 7):
        previous_hash = str(made[-1].entry_hash)
        made.append(entry(previous_hash, row_id=row_id, user_id=8, query=f"é {row_id} \u2028"))
    return made


def test_every_row_is_kept_whole_and_verifies_again(
    org: Org, rows: list[QwedRow], tmp_path: Path
) -> None:
    head = str(rows[-1].entry_hash)
    dsn = write_sqlite(tmp_path / "qwed.db", rows)
    code, result = org.run_json(dsn, "--expect-count", "6", "--expect-head", head)
    assert code == 0
    assert (result["valid"], result["complete"]) == (True, True)
    assert (result["imported"], result["already_imported"]) == (6, 0)
    assert result["forms"] == {"current": 4, "legacy": 2}
    verifier = TrailVerifier(1, [SECRET])
    for row, imported in zip(rows, org.entries(), strict=True):
        kept = imported.payload["qwed"]
        again = QwedRow.from_columns(kept["row"])
        assert again == row
        assert kept["form"] == verifier.check(again).form
        assert kept["entry_hash"] == row.entry_hash
        assert kept["hmac_signature"] == row.hmac_signature
        assert imported.outcome == "valid"
        assert imported.action == f"qwed:1:{row.id}"
        assert imported.timestamp == str(row.timestamp) + "Z"
    assert verifier.finish().valid
    assert org.client.verify_audit_trail().valid


def test_broken_rows_are_listed_and_imported_as_broken(
    org: Org, rows: list[QwedRow], tmp_path: Path
) -> None:
    rows[1] = replace(rows[1], query="what is 5 + 5?")
    rows[3] = replace(rows[3], result="{not-json", hmac_signature=None)
    dsn = write_sqlite(tmp_path / "qwed.db", rows)
    shown = org.run(dsn)
    assert shown.returncode == 1
    listed = [line.split()[:2] for line in shown.stdout.splitlines()]
    assert ["2", "-"] in listed
    assert ["4", "-"] in listed
    assert "Hash mismatch" in shown.stdout
    assert "6 imported" in shown.stderr
    imported = org.entries()
    assert [kept.outcome for kept in imported] == ["valid", "broken", "valid", "broken"] + [
        "valid"
    ] * 2
    broken = imported[3].payload["qwed"]
    assert broken["row"]["result"] == "{not-json"
    assert broken["row"]["hmac_signature"] is None
    assert broken["form"] is None
    assert broken["verdict"]["checks"] == {
        "hash_valid": False,
        "signature_valid": False,
        "chain_valid": True,
    }
    assert org.client.verify_audit_trail().valid
    code, again = org.run_json(dsn)
    assert (code, again["imported"], again["failed_entries"]) == (1, 0, [2, 4])


def test_a_second_run_goes_on_where_the_first_stopped(
    org: Org, rows: list[QwedRow], tmp_path: Path
) -> None:
    dsn = write_sqlite(tmp_path / "half.db", rows[:4])
    assert org.run_json(dsn)[1]["imported"] == 4
    whole = write_sqlite(tmp_path / "whole.db", rows)
    code, result = org.run_json(whole)
    assert (code, result["imported"], result["already_imported"]) == (0, 2, 4)
    assert org.run_json(whole)[1]["imported"] == 0
    assert [kept.action for kept in org.entries()] == [f"qwed:1:{row.id}" for row in rows]


def test_a_trail_cut_after_its_import_is_reported(
    org: Org, rows: list[QwedRow], tmp_path: Path
) -> None:
    dsn = write_sqlite(tmp_path / "qwed.db", rows)
    assert org.run(dsn).returncode == 0
    with closing(sqlite3.connect(tmp_path / "qwed.db")) as connection, connection:
        connection.execute("DELETE FROM verificationlog WHERE id > 4")
    code, result = org.run_json(dsn)
    assert (code, result["valid"], result["complete"]) == (1, False, False)
    assert result["trail_errors"] == ["Row 6 was imported earlier and is missing now"]


def test_each_organization_is_imported_separately(
    org: Org, rows: list[QwedRow], tmp_path: Path
) -> None:
    other = trail(3, first_id=10, organization_id=2)
    dsn = write_sqlite(tmp_path / "qwed.db", rows + other)
    assert org.run(dsn).returncode == 2
    assert org.run_json(dsn, "--source-org", "2")[1]["imported"] == 3
    assert org.run_json(dsn, "--source-org", "1")[1]["imported"] == 6
    assert org.run_json(dsn, "--source-org", "2")[1]["already_imported"] == 3
    assert org.run_json(dsn, "--source-org", "3")[0] == 1


def test_a_wrong_secret_fails_the_signatures_and_both_secrets_pass(
    org: Org, tmp_path: Path
) -> None:
    rows = trail(2, secret=b"old")
    rows.append(entry(str(rows[1].entry_hash), row_id=3))
    dsn = write_sqlite(tmp_path / "qwed.db", rows)
    code, result = org.run_json(dsn)
    assert (code, result["failed_entries"]) == (1, [1, 2])
    both = ("--secret-env", "QWED_AUDIT_SECRET_KEY", "--secret-env", "OLD_KEY")
    code, result = org.run_json(dsn, *both, OLD_KEY="old")
    assert (code, result["valid"], result["already_imported"]) == (0, True, 3)


@pytest.mark.parametrize("org", ["sealed"], indirect=True)
def test_erasing_a_user_leaves_a_valid_trail_that_can_still_grow(
    org: Org, rows: list[QwedRow], tmp_path: Path
) -> None:
    assert org.run(write_sqlite(tmp_path / "half.db", rows[:5])).returncode == 0
    org.client.erase_subject("qwed:user:8")
    erased = [kept for kept in org.entries() if kept.erased]
    assert [kept.action for kept in erased] == ["qwed:1:3", "qwed:1:4", "qwed:1:5"]
    assert all(kept.payload is None for kept in erased)
    assert org.run_json(write_sqlite(tmp_path / "whole.db", rows))[1]["imported"] == 1
    assert org.client.verify_audit_trail().valid


def test_a_row_the_server_refuses_is_named_and_nothing_after_it_is_sent(
    org: Org, rows: list[QwedRow], tmp_path: Path
) -> None:
    rows[2] = entry(str(rows[1].entry_hash), row_id=3, query="x" * (2 * 1024 * 1024))
    done = org.run(write_sqlite(tmp_path / "qwed.db", rows[:3]))
    assert done.returncode == 2
    assert "row 3 was refused" in done.stderr
    assert org.entries() == []


async def test_a_postgres_trail_longer_than_one_batch(org: Org, empty_database: Database) -> None:
    connection = await asyncpg.connect(empty_database.owner_url)
    try:
        await connection.execute(POSTGRES_TABLE)
        marks = [f"${number}" for number in range(1, len(COLUMNS) + 1)]
        await connection.executemany(insert(*marks), map(_stored, trail(2_001)))
    finally:
        await connection.close()
    code, result = org.run_json(empty_database.owner_url)
    assert (code, result["imported"], result["valid"]) == (0, 2_001, True)
    assert org.run_json(empty_database.owner_url)[1]["already_imported"] == 2_001
    assert len(org.entries()) == 2_001


def _stored(row: QwedRow) -> list[Any]:
    stored = values(row)
    stored[COLUMNS.index("timestamp")] = datetime.fromisoformat(str(row.timestamp))
    return stored
