"""``quire import qwed`` of a trail that the org already has, wholly or in part."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

import pytest

from ledger.client import Entry, LedgerClient
from ledger.qwed import QwedRow, QwedVerdict, TrailVerifier, imported_event
from tests import qwed_random
from tests.qwed_writer import SECRET, entry, trail, write_sqlite
from tests.support.qwed_import import Org
from tests.support.rings import slow
from tests.support.serving import Server

NewOrg = Callable[[str], Org]


@pytest.fixture
def new_org(shared_server: Server) -> Iterator[NewOrg]:
    """Create orgs of the running server, "plain" or "sealed"."""
    clients: list[LedgerClient] = []

    def make(privacy: str) -> Org:
        slug = f"qwed-{uuid4().hex[:12]}"
        with LedgerClient(shared_server.url, shared_server.platform_key) as platform:
            platform.create_org(slug, "QWED", privacy)  # type: ignore[arg-type]
            key = platform.create_key("import", "admin", org=slug).key
        clients.append(LedgerClient(shared_server.url, key, slug))
        return Org(shared_server.url, slug, clients[-1], key)

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def org(new_org: NewOrg) -> Org:
    return new_org("plain")


def corrections(org: Org) -> list[Entry]:
    return list(org.client.entries(event_type="qwed.corrected", order="asc"))


def trail_of_8(count: int = 4) -> list[QwedRow]:
    """Unsigned rows, then chained ones of QWED 8."""
    columns = qwed_random.trail(Random(8), "admission", SECRET, unsigned=2)
    return [QwedRow.from_columns(row) for row in columns][: 2 + count]


def append_as_broken(org: Org, rows: list[QwedRow], *, unless: Callable[[QwedRow], bool]) -> None:
    """Import the rows with the verdicts of an older reader that does not know their form."""
    verifier = TrailVerifier(1, [SECRET])
    events = []
    for row in rows:
        verdict = verifier.check(row)
        if not unless(row):
            verdict = QwedVerdict(row.id, None, bool(row.hmac_signature), True, ("Hash mismatch",))
        events.append(imported_event(1, row, verdict))
    org.client.append_many(events)


def test_a_trail_of_qwed_8_is_imported_with_its_unsigned_rows(org: Org, tmp_path: Path) -> None:
    rows = trail_of_8()
    dsn = write_sqlite(tmp_path / "qwed.db", rows)
    code, result = org.run_json(dsn)
    assert (code, result["verdict"], result["valid"]) == (3, "incomplete", False)
    assert (result["unsigned_entries"], result["failed_entries"]) == ([1, 2], [])
    assert result["forms"]["admission"] == len(rows) - 2
    imported = org.entries()
    assert [kept.outcome for kept in imported] == ["unsigned"] * 2 + ["valid"] * (len(rows) - 2)
    assert imported[0].payload["qwed"]["verdict"]["checks"] == {
        "hash_valid": "not_checked",
        "signature_valid": "not_checked",
        "chain_valid": "not_checked",
    }
    assert imported[2].payload["qwed"]["form"] == "admission"
    shown = org.run(dsn)
    assert (shown.returncode, shown.stdout) == (3, "")
    assert "2 unsigned" in shown.stderr
    assert "they can't be checked" in shown.stderr


@pytest.mark.parametrize("privacy", ["plain", slow("sealed")])
def test_rows_once_imported_as_broken_are_corrected_once_by_new_entries(
    new_org: NewOrg, privacy: str, tmp_path: Path
) -> None:
    org, rows = new_org(privacy), trail_of_8()
    append_as_broken(org, rows, unless=lambda row: row.id == rows[-1].id)
    before = org.entries()
    dsn = write_sqlite(tmp_path / "qwed.db", rows)
    assert org.run_json(dsn, "--dry-run")[1]["would_correct"] == len(rows) - 1
    code, result = org.run_json(dsn)
    assert (code, result["corrected"], result["imported"]) == (3, len(rows) - 1, 0)
    made = corrections(org)
    assert [kept.action for kept in made] == [f"qwed:1:{row.id}" for row in rows[:-1]]
    assert [kept.outcome for kept in made] == ["unsigned"] * 2 + ["valid"] * (len(rows) - 3)
    assert [kept.payload["qwed"]["corrects"] for kept in made] == [
        kept.record_id for kept in before[:-1]
    ]
    assert all((kept.actor, kept.subject) == (None, None) for kept in made)
    assert "row" not in made[-1].payload["qwed"]
    assert org.run_json(dsn)[1]["corrected"] == 0
    assert corrections(org) == made
    assert org.entries() == before
    assert org.client.verify_audit_trail().valid


def test_a_row_that_gains_a_check_is_corrected_and_a_lost_secret_takes_nothing_back(
    org: Org, tmp_path: Path
) -> None:
    rows = trail(3, secret=b"old")
    rows.append(entry(str(rows[2].entry_hash), row_id=4))
    rows[1] = replace(rows[1], query="altered")
    dsn = write_sqlite(tmp_path / "qwed.db", rows)
    assert org.run_json(dsn)[1]["failed_entries"] == [1, 2, 3]
    both = ("--secret-env", "QWED_AUDIT_SECRET_KEY", "--secret-env", "OLD_KEY")
    code, result = org.run_json(dsn, *both, OLD_KEY="old")
    assert (code, result["corrected"]) == (1, 3)
    assert [kept.outcome for kept in corrections(org)] == ["valid", "broken", "valid"]
    assert org.run_json(dsn)[1]["corrected"] == 0  # without the old secret again
    assert org.run_json(dsn, *both, OLD_KEY="old")[1]["corrected"] == 0


def test_a_broken_row_that_was_repaired_afterwards_keeps_its_verdict(
    org: Org, tmp_path: Path
) -> None:
    rows = trail(3)
    altered = [rows[0], replace(rows[1], query="altered"), rows[2]]
    assert org.run_json(write_sqlite(tmp_path / "altered.db", altered))[0] == 1
    code, result = org.run_json(write_sqlite(tmp_path / "repaired.db", rows))
    assert (code, result["verdict"], result["corrected"]) == (1, "refuted", 0)
    assert result["trail_errors"] == ["Row 2 differs from the imported row"]
    assert corrections(org) == []


def test_the_verdict_on_an_erased_row_is_kept(new_org: NewOrg, tmp_path: Path) -> None:
    org, rows = new_org("sealed"), trail(3)
    append_as_broken(org, rows, unless=lambda row: row.id == 3)
    org.client.erase_subject("qwed:user:7")
    code, result = org.run_json(write_sqlite(tmp_path / "qwed.db", rows))
    assert (code, result["corrected"], result["already_imported"]) == (0, 0, 3)


def other_database(kind: str) -> list[QwedRow]:
    """Rows of organization 1 from another database than the one of ``trail(6)``."""
    match kind:
        case "longer":
            return trail(8, query="another")
        case "shorter":
            return trail(3, query="another")
        case "later ids":
            return trail(3, first_id=20, query="another")
        case "earlier ids":
            return trail(2, first_id=-5, query="another")
        case "same until its newest rows":
            rows = trail(5)
            rows += [
                entry(str(rows[-1].entry_hash), row_id=row_id, query="no") for row_id in (6, 7)
            ]
            rows[6] = entry(str(rows[5].entry_hash), row_id=7)
            return rows
    raise AssertionError(kind)


@pytest.mark.parametrize("privacy", ["plain", slow("sealed")])
def test_another_database_with_the_same_organization_id_is_refused(
    new_org: NewOrg, privacy: str, tmp_path: Path
) -> None:
    org = new_org(privacy)
    assert org.run_json(write_sqlite(tmp_path / "qwed.db", trail(6)))[0] == 0
    held = org.client.head()
    kinds = ["longer", "shorter", "later ids", "earlier ids", "same until its newest rows"]
    for kind in kinds:
        dsn = write_sqlite(tmp_path / f"{kind}.db", other_database(kind))
        for dry in ([], ["--dry-run"]):
            done = org.run(dsn, *dry)
            assert (done.returncode, done.stdout) == (2, ""), kind
            assert "Nothing was imported" in done.stderr
            assert "is not the organization whose trail the org holds" in done.stderr
    assert org.client.head() == held


def test_another_database_is_refused_after_the_erasure_of_imported_rows(
    new_org: NewOrg, tmp_path: Path
) -> None:
    org = new_org("sealed")
    assert org.run_json(write_sqlite(tmp_path / "qwed.db", trail(3)))[0] == 0
    org.client.erase_subject("qwed:user:7")
    later = trail(4, timestamp="2026-06-01T00:00:00")
    assert org.run(write_sqlite(tmp_path / "other.db", later)).returncode == 2
    assert org.run_json(write_sqlite(tmp_path / "grown.db", trail(4)))[1]["imported"] == 1


def test_another_database_of_unsigned_rows_is_refused(org: Org, tmp_path: Path) -> None:
    rows = trail_of_8()[:2]
    assert org.run(write_sqlite(tmp_path / "qwed.db", rows)).returncode == 3
    grown = write_sqlite(tmp_path / "grown.db", trail_of_8())
    other = [rows[0], replace(rows[1], query="another")]
    assert org.run(write_sqlite(tmp_path / "other.db", other)).returncode == 2
    assert org.run_json(grown)[1]["already_imported"] == 2


def test_an_imported_row_that_was_rehashed_afterwards_is_reported(org: Org, tmp_path: Path) -> None:
    rows = trail(4)
    dsn = write_sqlite(tmp_path / "qwed.db", rows)
    assert org.run(dsn).returncode == 0
    with closing(sqlite3.connect(tmp_path / "qwed.db")) as connection, connection:
        connection.execute("UPDATE verificationlog SET entry_hash = 'x' WHERE id = 2")
    code, result = org.run_json(dsn)
    assert (code, result["failed_entries"]) == (1, [2, 3])
    assert result["trail_errors"] == ["Row 2 differs from the imported row"]


def test_a_wrong_secret_ends_the_import_before_anything_is_written(
    org: Org, tmp_path: Path
) -> None:
    rows = trail(3)
    dsn = write_sqlite(tmp_path / "qwed.db", rows)
    wrong: dict[str, Any] = {"QWED_AUDIT_SECRET_KEY": "wrong"}
    for arguments in ([], ["--dry-run"]):
        done = org.run(dsn, *arguments, **wrong)
        assert (done.returncode, done.stdout) == (2, "")
        assert "QWED_AUDIT_SECRET_KEY signed no row" in done.stderr
        assert "Nothing was imported" in done.stderr
    assert org.entries() == []
    assert org.run_json(dsn)[1]["imported"] == 3
    grown = write_sqlite(tmp_path / "grown.db", trail(4))
    assert org.run(grown, **wrong).returncode == 2
    assert len(org.entries()) == 3


def test_a_wrong_secret_is_named_and_a_spare_one_is_no_fault(org: Org, tmp_path: Path) -> None:
    rows = trail(2, secret=b"old")
    rows.append(entry(str(rows[1].entry_hash), row_id=3))
    dsn = write_sqlite(tmp_path / "qwed.db", rows)
    both = ("--secret-env", "QWED_AUDIT_SECRET_KEY", "--secret-env", "OLD_KEY")
    done = org.run(dsn, *both, OLD_KEY="misspelt")
    assert done.returncode == 2
    assert "in OLD_KEY signed no row" in done.stderr
    assert org.entries() == []
    honest = write_sqlite(tmp_path / "honest.db", trail(2))
    assert org.run_json(honest, *both, OLD_KEY="never used")[0] == 0


def test_an_altered_signature_is_a_broken_row_not_a_wrong_secret(org: Org, tmp_path: Path) -> None:
    rows = trail(3)
    rows[0] = replace(rows[0], hmac_signature="0" * 64)
    code, result = org.run_json(write_sqlite(tmp_path / "qwed.db", rows))
    assert (code, result["failed_entries"], result["imported"]) == (1, [1], 3)


def test_a_dry_run_counts_and_writes_nothing(org: Org, tmp_path: Path) -> None:
    dsn = write_sqlite(tmp_path / "qwed.db", trail(3))
    code, result = org.run_json(dsn, "--dry-run")
    counts = ("dry_run", "would_import", "would_correct", "imported", "already_imported")
    assert code == 0
    assert [result[name] for name in counts] == [True, 3, 0, 0, 0]
    assert org.client.head().seq == -1
    assert org.run(dsn).returncode == 0
    broken = trail(5)
    broken[4] = replace(broken[4], query="altered")
    grown = write_sqlite(tmp_path / "grown.db", broken)
    code, result = org.run_json(grown, "--dry-run")
    assert (code, [result[name] for name in counts]) == (1, [True, 2, 0, 0, 3])
    assert "2 would be imported" in org.run(grown, "--dry-run").stderr
    assert len(org.entries()) == 3
