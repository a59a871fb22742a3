"""Folders have few entries, and the files that features name exist."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import pytest
from litestar import Router

from ledger.archive.retention import run as retention
from server.app.features import FEATURES
from server.feature import Feature, load

ROOT = Path(__file__).parents[2]
MOST = 14
"""The largest number of entries of a folder, without `__init__.py` and compiled files."""
ROOMY = {ROOT / "ledger" / "storage"}
"""Exempt: storage has one module for each kind of statements, `ledger` has the formats."""


def rooms() -> list[Path]:
    folders = [ROOT / "server", *(ROOT / "server").rglob("*/"), *(ROOT / "ledger").rglob("*/")]
    return [
        folder
        for folder in folders
        if folder.is_dir() and folder.name != "__pycache__" and folder not in ROOMY
    ]


def entries_of(folder: Path) -> set[str]:
    """What a reader of the folder has to choose from, but for domains: each of those is one word."""
    names = {one.name for one in folder.iterdir() if not (one / "feature.py").is_file()}
    return names - {"__init__.py", "__pycache__"}


def test_no_folder_is_crowded() -> None:
    crowded = {
        str(folder.relative_to(ROOT)): len(entries)
        for folder in rooms()
        if len(entries := entries_of(folder)) > MOST
    }
    assert crowded == {}


def class_names() -> Counter[str]:
    return Counter(
        node.name
        for folder in ("ledger", "server")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path)))
        if isinstance(node, ast.ClassDef)
    )


def test_no_class_name_is_used_twice() -> None:
    names = class_names()
    assert len(names) > 500
    assert {name: count for name, count in names.items() if count > 1} == {}


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
def test_the_files_named_by_features_exist(feature: Feature) -> None:
    assert all(isinstance(load(target), Router) for target in feature.routes)
    assert all(callable(load(target)) for target in feature.tasks)
    assert all(load(command.target) for command in feature.commands.values())
    assert feature.name in {"server", "witness"} or feature.tags


def test_features_have_names_of_their_own() -> None:
    for names in (
        [feature.name for feature in FEATURES],
        [name for feature in FEATURES for name in feature.commands],
        [name for feature in FEATURES for name in feature.tags],
        [kind.event_type for feature in FEATURES for kind in feature.entry_kinds],
    ):
        assert len(names) == len(set(names))


def test_every_entry_that_the_server_writes_is_a_kind_of_a_feature() -> None:
    kinds = {kind.event_type for feature in FEATURES for kind in feature.entry_kinds}
    assert {retention.DROPPED, retention.CONTINUED} <= kinds
    written = {
        name
        for folder in ("server", "ledger")
        for path in (ROOT / folder).rglob("*.py")
        for name in re.findall(
            r'(?:^[A-Z_]+\b[^=\n]* = |EntryKind\(\s*)"(quire\.[a-z_]+)"',
            path.read_text(),
            re.MULTILINE,
        )
    }
    assert written - {"quire.conf"} == kinds


def test_the_documentation_lists_the_kinds_of_entries() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| `(quire\.\w+)` \| (.+) \|$", page, re.MULTILINE)
    assert rows == [kind[:2] for feature in FEATURES for kind in feature.entry_kinds]
