"""The rule that combines checks into a verdict."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.verdict import NOT_CHECKED, Verdict, combine, unchecked

NAMES = ("hashes", "links", "tree", "head")
answers = st.sampled_from([True, False, NOT_CHECKED])
some_checks = st.dictionaries(st.sampled_from(NAMES), answers)
some_names = st.lists(st.sampled_from(NAMES), unique=True)


@pytest.mark.parametrize(
    ("verdict", "word", "code", "valid"),
    [
        (Verdict.VERIFIED, "verified", 0, True),
        (Verdict.REFUTED, "refuted", 1, False),
        (Verdict.INCOMPLETE, "incomplete", 3, False),
    ],
)
def test_each_word_has_its_exit_code(verdict: Verdict, word: str, code: int, valid: bool) -> None:
    assert (str(verdict), verdict.exit_code, verdict.valid) == (word, code, valid)


@given(some_checks, some_names)
def test_verified_means_that_all_asked_for_is_true(
    checks: dict[str, bool | str], asked: list[str]
) -> None:
    verdict = combine(checks, asked)
    all_true = bool(asked) and all(checks.get(name) is True for name in asked)
    assert verdict.valid == (all_true and False not in checks.values())
    assert (verdict is Verdict.REFUTED) == (False in checks.values())


@given(some_checks, some_names, st.integers(1, 9))
def test_a_fault_refutes_whatever_the_checks_say(
    checks: dict[str, bool | str], asked: list[str], faults: int
) -> None:
    assert combine(checks, asked, fault_count=faults) is Verdict.REFUTED


def test_a_missing_check_was_not_made() -> None:
    assert unchecked({"hashes": True, "tree": NOT_CHECKED}, ("hashes", "tree", "head")) == (
        "tree",
        "head",
    )
    assert combine({"hashes": True}, ("hashes", "head")) is Verdict.INCOMPLETE


@pytest.mark.parametrize("answer", [1, "true", None, "verified"])
def test_nothing_but_true_itself_is_an_answer(answer: object) -> None:
    assert combine({"hashes": answer}, ("hashes",)) is Verdict.INCOMPLETE


def test_asking_for_nothing_verifies_nothing() -> None:
    assert combine({"hashes": True}, ()) is Verdict.INCOMPLETE
