"""Verdicts: what was checked, what holds, and why not where something does not."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Final, Literal, TypeAlias

import msgspec

Answer: TypeAlias = bool | Literal["not_checked"]
NOT_CHECKED: Final = "not_checked"
REASONS_MAX: Final = 10
"""Reasons kept for one check; how many more there were is said."""
_REASON_CHARS_MAX: Final = 400

CHECKS: Final = (
    "hashes",
    "links",
    "signatures",
    "payloads",
    "tree",
    "checkpoints",
    "anchors",
    "classical_signature",
    "pq_signature",
    "external_time",
    "witnesses",
)
"""Every check, in the order in which they are shown."""


class Outcome(IntEnum):
    """The verdict as a whole; the value is the exit code of ``quire-verify``."""

    VERIFIED = 0
    REFUTED = 1
    UNREADABLE = 2
    VERIFIED_IN_PART = 3


class Verdict(msgspec.Struct, frozen=True):
    """What a verification found. Nothing that was not checked is ever True.

    ``reasons`` says why by the name of the check, ``about`` what was verified,
    ``warnings`` what to keep in mind; ``unreadable`` is why nothing could be checked.
    """

    outcome: Literal["verified", "refuted", "unreadable", "verified_in_part"]
    hashes: Answer = NOT_CHECKED
    links: Answer = NOT_CHECKED
    signatures: Answer = NOT_CHECKED
    payloads: Answer = NOT_CHECKED
    tree: Answer = NOT_CHECKED
    checkpoints: Answer = NOT_CHECKED
    anchors: Answer = NOT_CHECKED
    classical_signature: Answer = NOT_CHECKED
    pq_signature: Answer = NOT_CHECKED
    external_time: Answer = NOT_CHECKED
    witnesses: Answer = NOT_CHECKED
    reasons: dict[str, tuple[str, ...]] = {}
    about: dict[str, str | int] = {}
    warnings: tuple[str, ...] = ()
    unreadable: str | None = None

    @property
    def exit_code(self) -> int:
        return Outcome[self.outcome.upper()].value

    def answers(self) -> dict[str, Answer]:
        """Every check with its answer, in order."""
        return {check: getattr(self, check) for check in CHECKS}


class Findings:
    """What a verification has found so far. A check that failed once has failed."""

    def __init__(self) -> None:
        self._answers: dict[str, Answer] = {}
        self._reasons: dict[str, list[str]] = {}
        self._more: dict[str, int] = {}
        self.about: dict[str, str | int] = {}
        self.warnings: list[str] = []

    def holds(self, check: str, reason: str) -> None:
        """The check was made and holds, unless another part of it fails."""
        if self._answers.setdefault(check, True) is True:
            self._say(check, reason)

    def fails(self, check: str, reason: str) -> None:
        """The check was made and does not hold."""
        if self._answers.get(check) is not False:
            self._reasons.pop(check, None)
            self._answers[check] = False
        self._say(check, reason)

    def leaves_out(self, check: str, reason: str) -> None:
        """The check, or a part of it, was not made: it is not True, but may be False."""
        if self._answers.get(check) is not False:
            if self._answers.get(check) is True:
                self._reasons.pop(check, None)
            self._answers[check] = NOT_CHECKED
            self._say(check, reason)

    def leaves_out_the_rest(self, reasons: Mapping[str, str]) -> None:
        """Checks of which nothing was found were not made, and this is why."""
        for check, reason in reasons.items():
            if check not in self._answers:
                self.leaves_out(check, reason)

    def failed(self, check: str) -> bool:
        return self._answers.get(check) is False

    def verdict(self, asked: frozenset[str]) -> Verdict:
        """The verdict; checks in ``asked`` that were not made leave it in part."""
        answers = {check: self._answers.get(check, NOT_CHECKED) for check in CHECKS}
        outcome = Outcome.VERIFIED
        if any(answer is False for answer in answers.values()):
            outcome = Outcome.REFUTED
        elif any(answers[check] == NOT_CHECKED for check in asked):
            outcome = Outcome.VERIFIED_IN_PART
        return msgspec.convert(
            {
                "outcome": outcome.name.lower(),
                **answers,
                "reasons": {check: self._told(check) for check in CHECKS if check in self._reasons},
                "about": {
                    name: printable(said) if isinstance(said, str) else said
                    for name, said in self.about.items()
                },
                "warnings": [printable(warning) for warning in self.warnings],
            },
            Verdict,
        )

    def _say(self, check: str, reason: str) -> None:
        reasons = self._reasons.setdefault(check, [])
        if len(reasons) < REASONS_MAX:
            reasons.append(printable(reason))
        else:
            self._more[check] = self._more.get(check, 0) + 1

    def _told(self, check: str) -> tuple[str, ...]:
        more = self._more.get(check)
        return (*self._reasons[check], *([f"and {more} more"] if more else []))


def unreadable(reason: str) -> Verdict:
    """The verdict on what can't be read."""
    return Verdict("unreadable", unreadable=printable(reason))


def printable(text: str) -> str:
    """Text from outside, fit for a terminal: no control characters, and not endless."""
    shown = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
    return shown if len(shown) <= _REASON_CHARS_MAX else shown[: _REASON_CHARS_MAX - 1] + "…"
