"""Bundles that releases have made are read for ever, and judged as they were then."""

from __future__ import annotations

import json

import pytest

from tests.support.bundle_corpus import FOLDER, trust
from tests.support.evidence import judge

EXPECTED = json.loads((FOLDER / "expected.json").read_bytes())


def test_every_bundle_of_the_corpus_is_expected() -> None:
    assert {path.stem for path in FOLDER.glob("*.zip")} == set(EXPECTED)
    outcomes = {told["outcome"] for told in EXPECTED.values()}
    assert outcomes == {"verified", "refuted", "unreadable", "verified_in_part"}


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_bundle_of_the_corpus(name: str) -> None:
    verdict = judge((FOLDER / f"{name}.zip").read_bytes(), trust())
    told = {"outcome": verdict.outcome, "checks": verdict.answers()}
    assert told == EXPECTED[name], (verdict.reasons, verdict.unreadable)
