"""Only one package names the table of the entries; all other code asks that package for entries."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMING = {
    # The one reader and the one writer.
    "ledger": ("ledger/storage/entries/",),
    "server": (),
    # The baselines of the benchmarks: raw rows by COPY in and out, and the indexes whose cost
    # a row of the table measures.
    "bench": ("bench/rows.py",),
}
"""The modules of each package that may name the table, as beginnings of their paths."""

_BEFORE = r"FROM|JOIN|INTO|UPDATE|TABLE|TRUNCATE|COPY|LOCK|ONLY|ON|VACUUM|ANALYZE\)?"
_VERBS = r"SELECT|INSERT|UPDATE|DELETE|TRUNCATE|COPY|LOCK|ALTER|CREATE|DROP|VACUUM|ANALYZE|WITH"
_TABLE = r'(?:public\.)?"?entries(?:"|\b)'
IN_SQL = (
    re.compile(rf"\b(?:{_BEFORE})\s+{_TABLE}"),
    # In lower case such words are also English: only after a verb of SQL at the beginning.
    re.compile(rf"(?is)\A\s*(?:{_VERBS})\s.*\b(?:{_BEFORE})\s+{_TABLE}"),
    re.compile(r"'(?:public\.)?entries'::reg|to_reg\w+\('(?:public\.)?entries"),
    # A partition: entries_2026_03, or the beginning of such a name.
    re.compile(r"\bentries_(?:\d|\\d|%|\{|\Z)"),
)
COPIES = {"copy_to_table", "copy_records_to_table", "copy_from_table"}


def texts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every string of a module with its line, parts joined, but for docstrings."""
    if isinstance(tree, ast.Expr) and isinstance(tree.value, ast.Constant):
        return
    text = joined(tree)
    if text is not None:
        assert isinstance(tree, ast.expr)
        yield tree.lineno, text
        if isinstance(tree, ast.Constant):
            return
    for child in ast.iter_child_nodes(tree):
        yield from texts(child)


def joined(node: ast.AST) -> str | None:
    """The text of a string, of an f-string with {} for its values, or of a sum of such."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        return "".join(joined(part) or "{}" for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = joined(node.left), joined(node.right)
        return None if left is None and right is None else (left or "{}") + (right or "{}")
    return None


def copied(tree: ast.AST) -> Iterator[int]:
    """The lines of calls that COPY into or out of the table by its name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            named = [*node.args[:1], *(word.value for word in node.keywords)]
            if node.func.attr in COPIES and "entries" in map(joined, named):
                yield node.lineno


def lines_naming(source: str) -> list[int]:
    """The lines of a module that name the table."""
    tree = ast.parse(source)
    in_sql = {line for line, text in texts(tree) if any(pattern.search(text) for pattern in IN_SQL)}
    return sorted(in_sql | set(copied(tree)))


@pytest.mark.parametrize("package", NAMING)
def test_one_package_names_the_table(package: str) -> None:
    modules = [path.relative_to(ROOT).as_posix() for path in (ROOT / package).rglob("*.py")]
    assert len(modules) > 20
    naming = {
        module: lines for module in modules if (lines := lines_naming((ROOT / module).read_text()))
    }
    assert {name for name in NAMING[package] if any(one.startswith(name) for one in naming)} == set(
        NAMING[package]
    )
    assert {
        module: lines for module, lines in naming.items() if not module.startswith(NAMING[package])
    } == {}


@pytest.mark.parametrize(
    "source",
    [
        'Q = "SELECT seq FROM entries WHERE org_id = $1"',
        'Q = "select seq from public.entries"',
        'Q = f"SELECT {columns} FROM entries LIMIT 1"',
        'Q = f"DELETE {what}" + " FROM entries"',
        'Q = """\nINSERT INTO\n    entries (org_id) VALUES (1)"""',
        'Q = "SELECT FROM heads h LEFT JOIN entries e ON true"',
        'Q = "UPDATE entries SET seq = 1; ALTER TABLE entries DISABLE TRIGGER ALL"',
        'Q = "VACUUM (ANALYZE) entries"',
        'Q = "CREATE INDEX one ON entries (seq)"',
        "Q = \"SELECT 'entries'::regclass\"",
        "Q = \"SELECT to_regclass('public.entries')\"",
        'Q = "TRUNCATE entries_2026_03"',
        'part = f"entries_{month:%Y_%m}"',
        'part = "entries_" + month',
        'c.copy_to_table("entries", source=rows)',
        'c.copy_records_to_table(table_name="entries", records=rows)',
    ],
)
def test_a_module_that_names_the_table_is_found(source: str) -> None:
    assert lines_naming(source) == [1]


@pytest.mark.parametrize(
    "source",
    [
        '"""Reads rows FROM entries."""',
        'answer = {"entries": page.entries, "entries_per_batch": 7}',
        'path = f"/v1/orgs/{org}/entries"',
        'raise Refused(f"select the entries in one way, not {count} entries from {first} on")',
        'Q = "SELECT quire_create_entries_partition($1)"',
        'Q = "SELECT size FROM trees"',
        'c.copy_records_to_table("heads", records=rows)',
    ],
)
def test_other_modules_are_not(source: str) -> None:
    assert lines_naming(source) == []
