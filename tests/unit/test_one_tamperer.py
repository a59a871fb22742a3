"""Tests read and change stored entries through one module: no other names their table in SQL."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
TAMPERER = TESTS / "support" / "block_table.py"
ALLOWED = (TAMPERER, Path(__file__), Path(__file__).with_name("test_one_reader.py"))
"""The module that names the table, and those whose examples of naming it are no statements."""
TABLE = r"(?:\w+\.)?\"?entries(?:_\d{4}_\d\d|_wild)?\b"
NAMED = re.compile(
    rf"\b(?:FROM|JOIN|INTO|UPDATE|TABLE|ONLY|TRUNCATE|COPY|LOCK|USING|ON|OF) {TABLE}"
)
"""A keyword and the table, or a partition of it."""
VERB = re.compile(
    r"\s*(?:SELECT|INSERT|UPDATE|DELETE|TRUNCATE|ALTER|CREATE|DROP|LOCK|COPY|GRANT|REVOKE|MERGE"
    r"|WITH|EXPLAIN) "
)
PARTITION = re.compile(r"\bentries_(?:\d{4}|wild)")
COPIED = {"copy_to_table", "copy_records_to_table", "copy_from_table"}
OTHER_TABLES = {"heads", "trees", "tile_parts", "orgs"}


def text_of(node: ast.expr) -> str | None:
    """Return a string constant, or an f-string with spaces for its expressions."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) or " " for part in node.values)
    return None


def names_table(text: str) -> bool:
    text = re.sub(r"\s+", " ", text)
    in_sql = VERB.match(text) and re.search(rf"[ ,(]{TABLE}", text)
    return bool(NAMED.search(text) or PARTITION.search(text) or in_sql)


def lists_table(node: ast.expr) -> bool:
    """Whether a literal lists the table beside others, or a call copies to or from it."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return node.func.attr in COPIED and "entries" in map(text_of, node.args)
    if isinstance(node, (ast.Tuple, ast.List, ast.Set)):
        named = set(map(text_of, node.elts))
    elif isinstance(node, ast.Dict):
        named = {text_of(key) for key in node.keys if key is not None}
    else:
        return False
    return "entries" in named and bool(named & OTHER_TABLES)


def namings(tree: ast.Module) -> Iterator[int]:
    """Yield the lines that name the table."""
    for node in ast.walk(tree):
        if isinstance(node, ast.expr):
            text = text_of(node)
            if lists_table(node) or (text is not None and names_table(text)):
                yield node.lineno


@pytest.mark.parametrize(
    "text",
    [
        '"DELETE FROM entries"',
        'f"UPDATE entries SET {column} = 1"',
        'f"{start} INTO entries ({columns})"',
        '"SELECT *\\nFROM entries"',
        '"TRUNCATE heads, entries"',
        '"GRANT INSERT ON orgs, entries TO quire_server"',
        '"SELECT 1 FROM orgs, public.entries"',
        '"DROP TABLE entries_2026_01"',
        '"LOCK TABLE entries IN ACCESS EXCLUSIVE MODE"',
        'connection.copy_records_to_table("entries", records=rows)',
        '("entries", "heads")',
        '{"orgs": "id", "entries": "*"}',
    ],
)
def test_the_rule_finds(text: str) -> None:
    assert list(namings(ast.parse(text)))


@pytest.mark.parametrize(
    "text", ['answer["entries"]', '("entries", "list", "demo")', '"a table of entries"']
)
def test_the_rule_lets_pass(text: str) -> None:
    assert not list(namings(ast.parse(text)))


def test_no_other_module_names_the_table_of_entries() -> None:
    found = [
        f"tests/{path.relative_to(TESTS)}:{line}"
        for path in sorted(TESTS.rglob("*.py"))
        if path not in ALLOWED
        for line in namings(ast.parse(path.read_bytes()))
    ]
    assert found == [], "read and change stored entries through tests/support/blocks.py"


@pytest.mark.parametrize("name", ["block_format", "block_table", "blocks", "changes", "repacking"])
def test_the_tampering_shares_no_code_with_the_blocks_of_the_product(name: str) -> None:
    """Else a bug of the product would be in both, and unseen."""
    tree = ast.parse((TESTS / "support" / f"{name}.py").read_bytes())
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    of_product = {name for name in imported if name and name.startswith("ledger")}
    assert of_product <= {"ledger.chain", "ledger.entry"}
