"""Verdicts: one vocabulary, and one rule by which single checks become a verdict.

Every command, answer and page of Quire that gives a verdict takes its words and
its exit code from here, so that none can call "verified" what another calls
"incomplete". docs/verification.md explains the words.

A *check* is one question about one thing ("do the signatures verify?") and has
the answer True, False or ``"not_checked"``. A check of which a part was not made
is ``"not_checked"`` or False, never True. A *verdict* is what all checks together
say about what the caller asked for.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Annotated, Final, Literal, TypeAlias

from ledger.shapes import shape

Check: TypeAlias = Annotated[
    bool | Literal["not_checked"],
    shape(
        "Check",
        'The answer of a check: it holds, it does not hold, or it was not made ("not_checked").',
        True,
    ),
]
"""The answer of a single check."""
NOT_CHECKED: Final = "not_checked"

NO_VERDICT_EXIT: Final = 2
"""Exit code where no verdict was reached: wrong usage, unreadable input, no connection."""


class Verdict(StrEnum):
    """What a verification says as a whole; the value is the word in JSON."""

    VERIFIED = "verified"
    """All that was asked for was checked and holds."""
    REFUTED = "refuted"
    """At least one thing that was checked is false."""
    INCOMPLETE = "incomplete"
    """Nothing that was checked is false, but something asked for was not checked, or is not
    there yet."""

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
    checks: Mapping[str, object], asked: Collection[str], *, fault_count: int = 0
) -> Verdict:
    """Combine checks, by name, into the verdict on what was ``asked`` for.

    A check that is False refutes, whether it was asked for or not, and so does any
    fault. A check that was asked for and is anything but True, or absent from
    ``checks``, leaves the verdict incomplete; so does asking for nothing.
    """
    if fault_count or any(answer is False for answer in checks.values()):
        return Verdict.REFUTED
    if not asked or unchecked(checks, asked):
        return Verdict.INCOMPLETE
    return Verdict.VERIFIED


def worse_of(one: Verdict, other: Verdict) -> Verdict:
    """The verdict on two things together: refuted before incomplete before verified."""
    order = (Verdict.VERIFIED, Verdict.INCOMPLETE, Verdict.REFUTED)
    return max(one, other, key=order.index)


def unchecked(checks: Mapping[str, object], asked: Collection[str]) -> tuple[str, ...]:
    """Name the checks that were asked for and have no answer, in the order of ``asked``."""
    return tuple(name for name in asked if not isinstance(checks.get(name), bool))
