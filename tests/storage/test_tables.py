"""docs/database.md says of every table of the schema who writes it and why it is believed."""

from __future__ import annotations

import re
from pathlib import Path

from ledger.storage.judged_rows import JUDGED
from tests.support.clusters import Database
from tests.support.signing import fetch

PAGE = Path(__file__).parents[2] / "docs" / "database.md"
CLASSES = {"deciding", "signed", "derived", "nothing"}
OPENED = {"subjects"}
"""Tables that decide and have no MAC, because their keys open only where they belong."""
TABLES = """
SELECT CASE n.nspname WHEN 'public' THEN '' ELSE n.nspname || '.' END || c.relname AS name,
       EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'mac') AS has_mac,
       has_any_column_privilege('quire_server', c.oid, 'INSERT, UPDATE') AS by_server
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
  AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_'"""


def listed() -> dict[str, tuple[str, str]]:
    """The class and the writers of each table, by its name."""
    section = PAGE.read_text().split("## Why each table is believed")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`[^|]+`) \| (\w+) \| ([^|]+) \|", section, re.MULTILINE)
    return {
        name: (kind, writers)
        for names, kind, writers in rows
        for name in re.findall("`(.+?)`", names)
    }


async def test_every_table_is_listed_with_its_class(database: Database) -> None:
    tables = {row["name"]: row for row in await fetch(database, TABLES)}
    found = listed()
    assert found.keys() == tables.keys()
    assert {kind for kind, _ in found.values()} <= CLASSES


async def test_the_tables_that_decide_have_macs_and_are_judged(database: Database) -> None:
    tables = {row["name"]: row for row in await fetch(database, TABLES)}
    deciding = {name for name, (kind, _) in listed().items() if kind == "deciding"}
    assert deciding - OPENED == {judged.table.name for judged in JUDGED}
    assert {name for name, row in tables.items() if row["has_mac"]} - {"tag_runs"} == (
        deciding - OPENED
    )


async def test_what_the_server_s_role_can_not_write_is_not_said_to_be_written_by_it(
    database: Database,
) -> None:
    tables = {row["name"]: row for row in await fetch(database, TABLES)}
    claimed = {name for name, (_, writers) in listed().items() if "server" in writers}
    assert {name for name, row in tables.items() if row["by_server"]} == claimed - {"write_probe"}
