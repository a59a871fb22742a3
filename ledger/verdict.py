"""Verdicts: one vocabulary, and one rule that combines checks into a verdict.

Every command, answer and page of Quire that gives a verdict takes its words and
its exit code from this module, so that no two of them give different verdicts on
the same checks. docs/verification.md explains the words.

A *check* is one question about one subject ("do the signatures verify?") and has
the answer True, False or ``"not_checked"``. A check that was made only in part
is ``"not_checked"`` or False, never True. A *verdict* combines the answers of all
checks with the list of checks that the caller required.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Final, Literal, TypeAlias

Check: TypeAlias = bool | Literal["not_checked"]
"""The answer of a single check."""
NOT_CHECKED: Final = "not_checked"

NO_VERDICT_EXIT: Final = 2
"""Exit code if no verdict was reached: wrong usage, unreadable input, no connection."""


class Verdict(StrEnum):
    """The result of a whole verification; the value is the word in JSON."""

    VERIFIED = "verified"
    """Every required check was made and is true."""
    REFUTED = "refuted"
    """At least one check is false."""
    INCOMPLETE = "incomplete"
    """No check is false, but a required check was not made, or not possible yet."""

    @property
    def exit_code(self) -> int:
        """The exit code of a command that ends with this verdict: 0, 1 or 3."""
        return _EXIT_CODES[self]

    @property
    def valid(self) -> bool:
        """The member ``valid`` beside a verdict: True for "verified" alone."""
        return self is Verdict.VERIFIED


_EXIT_CODES: Final = {Verdict.VERIFIED: 0, Verdict.REFUTED: 1, Verdict.INCOMPLETE: 3}


def combine(
    checks: Mapping[str, object], required: Collection[str], *, fault_count: int = 0
) -> Verdict:
    """Combine checks, by name, into a verdict; ``required`` names the required checks.

    A check that is False refutes, required or not, and so does any fault. A
    required check that is not True, or absent from ``checks``, makes the verdict
    incomplete; so does an empty ``required``.
    """
    if fault_count or any(answer is False for answer in checks.values()):
        return Verdict.REFUTED
    if not required or unchecked(checks, required):
        return Verdict.INCOMPLETE
    return Verdict.VERIFIED


def worse_of(first: Verdict, second: Verdict) -> Verdict:
    """Return the worse of two verdicts: refuted before incomplete before verified."""
    order = (Verdict.VERIFIED, Verdict.INCOMPLETE, Verdict.REFUTED)
    return max(first, second, key=order.index)


def unchecked(checks: Mapping[str, object], required: Collection[str]) -> tuple[str, ...]:
    """Return the names of the required checks without an answer, in the order of ``required``."""
    return tuple(name for name in required if not isinstance(checks.get(name), bool))
