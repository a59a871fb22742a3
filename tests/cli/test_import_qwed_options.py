"""Options that ``quire import qwed`` refuses before it sends anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from server.cli.main import main
from tests.qwed_writer import SECRET, trail, write_sqlite

# Nothing listens on this port: a command that got as far as a request would report that.
NOWHERE = {"QUIRE_URL": "http://127.0.0.1:1", "QUIRE_API_KEY": "quire_live_a_b"}
WITH_SECRET = NOWHERE | {"QWED_AUDIT_SECRET_KEY": SECRET.decode()}


def run(*arguments: str, env: dict[str, str | None]) -> Result:
    return CliRunner(env=env).invoke(main, ["import", "qwed", "--org", "acme", *arguments])


def test_no_secret_names_the_variable(tmp_path: Path) -> None:
    dsn = write_sqlite(tmp_path / "qwed.db", trail(1))
    for unset in (None, ""):
        result = run("--dsn", dsn, env={**NOWHERE, "QWED_AUDIT_SECRET_KEY": unset})
        assert result.exit_code == 2
        assert "QWED_AUDIT_SECRET_KEY must be set" in result.output
    result = run("--dsn", dsn, "--secret-env", "OLD_KEY", env={**WITH_SECRET, "OLD_KEY": None})
    assert "OLD_KEY must be set" in result.output


@pytest.mark.parametrize(
    ("dsn", "reason"),
    [
        ("sqlite:////nowhere/qwed.db", "does not exist"),
        ("mysql://db/qwed", "must be given as"),
    ],
)
def test_a_database_that_can_not_be_read_says_why(dsn: str, reason: str) -> None:
    result = run("--dsn", dsn, env={**WITH_SECRET})
    assert result.exit_code == 2
    assert reason in result.output


def test_several_organizations_need_a_choice(tmp_path: Path) -> None:
    rows = trail(1) + trail(1, first_id=2, organization_id=12)
    result = run("--dsn", write_sqlite(tmp_path / "qwed.db", rows), env={**WITH_SECRET})
    assert result.exit_code == 2
    assert "choose one of 1, 12 with --source-org" in result.output


def test_a_database_without_rows_is_not_a_success(tmp_path: Path) -> None:
    result = run("--dsn", write_sqlite(tmp_path / "qwed.db", []), env={**WITH_SECRET})
    assert result.exit_code == 2
    assert "no audit rows" in result.output
