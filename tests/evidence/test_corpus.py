"""Bundles of earlier releases stay readable and get the same verdicts."""

from __future__ import annotations

import json

import pytest

from ledger.evidence.verdict import CHECKS
from tests.support.bundle_corpus import FOLDER, SERVED, trust
from tests.support.evidence import judge

EXPECTED = json.loads((FOLDER / "expected.json").read_bytes())


def test_every_bundle_of_the_corpus_is_expected() -> None:
    assert {path.stem for path in FOLDER.glob("*.zip")} == set(EXPECTED)
    outcomes = {judged["outcome"] for judged in EXPECTED.values()}
    assert outcomes == {"verified", "refuted", "unreadable", "incomplete"}


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_bundle_of_the_corpus(name: str) -> None:
    verdict = judge((FOLDER / f"{name}.zip").read_bytes(), trust())
    judged = {"outcome": verdict.outcome, "checks": verdict.answers()}
    assert judged == EXPECTED[name], (verdict.reasons, verdict.unreadable)


def test_a_bundle_that_a_server_made() -> None:
    """Made by `quire serve` with an authority and a witness; it contains the page of its release."""
    data = (SERVED / "sealed.zip").read_bytes()
    verdict = judge(data, trust(SERVED))
    assert verdict.outcome == "verified"
    answers = dict.fromkeys(CHECKS, True) | {"signatures": "not_checked"}
    assert verdict.answers() == answers, verdict.reasons
    altered = judge(data.replace(b'"seq":17', b'"seq":18', 1), trust(SERVED))
    assert altered.outcome == "refuted"
    assert altered.answers()["tree"] is False
