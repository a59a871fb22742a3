"""The offline page, joined from its parts, has the digest that the format states for its version."""

from __future__ import annotations

import hashlib
import re
from importlib.resources import files
from pathlib import Path

from ledger.evidence import page
from ledger.evidence.page import MARKUP, PARTS, verify_page

FORMAT = (Path(__file__).parents[2] / "docs" / "format.md").read_text()


def test_the_joined_page_has_the_digest_of_the_format() -> None:
    joined = verify_page()
    stated = re.findall(
        r"^\| ([0-9]+) \| ([0-9,]+) \| `([0-9a-f]{64})` \|$",
        FORMAT.split("### The offline page")[1],
        re.MULTILINE,
    )
    version, length, digest = stated[-1]
    assert f"bundle format {version} ".encode() in joined
    assert int(length.replace(",", "")) == len(joined)
    assert digest == hashlib.sha256(joined).hexdigest(), (
        "the page has changed: state its length and digest in docs/format.md"
    )


def test_the_page_consists_exactly_of_its_parts() -> None:
    joined = verify_page()
    rest = files(page).joinpath(MARKUP).read_bytes()
    for name, line in PARTS.items():
        part = files(page).joinpath(name).read_bytes()
        assert part.endswith(b"\n")
        assert joined.count(part) == 1
        assert rest.count(line) == 1, f"{MARKUP} has one line for {name}"
        joined, rest = joined.replace(part, b""), rest.replace(line, b"")
    assert joined == rest


def test_every_part_is_joined() -> None:
    held = {each.name for each in files(page).iterdir() if each.name.rpartition(".")[2] != "py"}
    assert held - {"__pycache__"} == {MARKUP, *PARTS}
