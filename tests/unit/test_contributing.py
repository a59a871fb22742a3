"""CONTRIBUTING.md agrees with the tree: its map of folders, and the commands and files it names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from server.feature import Feature
from server.http import contract

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "CONTRIBUTING.md").read_text()
LEVELS = 2
"""The depth below `ledger/` and `server/` to which every folder is named."""


def folders() -> set[str]:
    packages = [ROOT / "ledger", ROOT / "server"]
    found = [*packages, *(path for package in packages for path in package.rglob("*/"))]
    return {
        f"{path.relative_to(ROOT)}/"
        for path in found
        if path.is_dir()
        and path.name != "__pycache__"
        and len(path.relative_to(ROOT).parts) <= LEVELS + 1
    }


def test_the_map_names_every_folder_once_and_no_other() -> None:
    table = PAGE.split("## Folders")[1].split("## Layers")[0]
    rows = re.findall(r"^\| `([\w/]+/)` \| (.+) \|$", table, re.MULTILINE)
    assert sorted(name for name, _ in rows) == sorted(folders())
    assert all(content.strip() for _, content in rows)


def test_the_files_that_it_names_exist() -> None:
    named = set(re.findall(r"`((?:ledger|server|tests|bench|migrations)/[\w/.]+)`", PAGE))
    assert len(named) > 20
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", PAGE)
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_make_targets_that_it_names_exist() -> None:
    targets = set(re.findall(r"^([a-z.-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"^make ([a-z.-]+[a-z])|`make ([a-z.-]+[a-z])", PAGE, re.MULTILINE))
    assert {first or second for first, second in named} <= targets


@pytest.mark.parametrize("field", Feature.__dataclass_fields__)
def test_what_a_feature_brings_is_explained(field: str) -> None:
    assert re.search(rf"FEATURE\.{field}|\b{field}=|{field.replace('_', ' ')}", PAGE), field


def test_the_example_is_in_the_folder_to_copy() -> None:
    (folder,) = re.findall(r"\]\((tests/\w+)\): copy it", PAGE)
    (route,) = re.findall(r'^    "(/v1/orgs/\S+)",$', PAGE, re.MULTILINE)
    assert f'"{route}"' in (ROOT / folder / "routes.py").read_text()
    assert all(hasattr(contract, name) for name in ("asks", "any_key", "needs_no_key"))
    (kind,) = re.findall(r'EntryKind\("quire\.\w+", ".+?"\)', PAGE)
    assert kind in (ROOT / folder / "entry_kinds.py").read_text()
