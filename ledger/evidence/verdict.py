"""Verdicts: the checks that were made, their answers, and the reasons."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from ledger.verdict import NO_VERDICT_EXIT, NOT_CHECKED, Check, Verdict, combine, unchecked

REASONS_MAX: Final = 10
"""The most reasons kept for one check; a last one counts the others."""
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
    "keys",
    "external_time",
    "witnesses",
)
"""Every check, in the order in which they are shown."""


class Judgement(msgspec.Struct, frozen=True):
    """The result of a verification. A check that was not made is never True.

    ``outcome`` is the word of the verdict, or "unreadable" where no verdict was reached.
    ``reasons`` has the reasons by the name of the check, ``about`` describes the verified
    object, ``warnings`` need a person's attention; ``unreadable`` is the reason why nothing
    could be checked.
    """

    outcome: Literal["verified", "refuted", "incomplete", "unreadable"]
    asked: tuple[str, ...] = ()
    """The checks without which the verdict is incomplete."""
    hashes: Check = NOT_CHECKED
    links: Check = NOT_CHECKED
    signatures: Check = NOT_CHECKED
    payloads: Check = NOT_CHECKED
    tree: Check = NOT_CHECKED
    checkpoints: Check = NOT_CHECKED
    anchors: Check = NOT_CHECKED
    classical_signature: Check = NOT_CHECKED
    pq_signature: Check = NOT_CHECKED
    keys: Check = NOT_CHECKED
    external_time: Check = NOT_CHECKED
    witnesses: Check = NOT_CHECKED
    reasons: dict[str, tuple[str, ...]] = {}
    about: dict[str, str | int] = {}
    warnings: tuple[str, ...] = ()
    unreadable: str | None = None

    @property
    def verdict(self) -> Verdict | None:
        """The verdict; None where the evidence could not be read."""
        return None if self.outcome == "unreadable" else Verdict(self.outcome)

    @property
    def exit_code(self) -> int:
        """The exit code of ``quire-verify``."""
        return NO_VERDICT_EXIT if self.verdict is None else self.verdict.exit_code

    @property
    def unchecked(self) -> tuple[str, ...]:
        """The checks that were asked for and not made."""
        return unchecked(self.answers(), self.asked)

    def answers(self) -> dict[str, Check]:
        """Return every check with its answer, in order."""
        return {check: getattr(self, check) for check in CHECKS}


class Findings:
    """Collects the findings of a verification. A check that failed once stays failed."""

    def __init__(self) -> None:
        self._answers: dict[str, Check] = {}
        self._reasons: dict[str, list[str]] = {}
        self._more: dict[str, int] = {}
        self.about: dict[str, str | int] = {}
        self.warnings: list[str] = []

    def holds(self, check: str, reason: str) -> None:
        """Record that a check was made and holds, unless another part of it fails."""
        if self._answers.setdefault(check, True) is True:
            self._add_reason(check, reason)

    def fails(self, check: str, reason: str) -> None:
        """Record that a check was made and fails."""
        if self._answers.get(check) is not False:
            self._reasons.pop(check, None)
            self._answers[check] = False
        self._add_reason(check, reason)

    def leaves_out(self, check: str, reason: str) -> None:
        """Record that a check, or a part of it, was not made: it can't be True, but may be False."""
        if self._answers.get(check) is not False:
            if self._answers.get(check) is True:
                self._reasons.pop(check, None)
            self._answers[check] = NOT_CHECKED
            self._add_reason(check, reason)

    def leaves_out_the_rest(self, reasons: Mapping[str, str]) -> None:
        """Record the checks without a finding as not made, each with its reason."""
        for check, reason in reasons.items():
            if check not in self._answers:
                self.leaves_out(check, reason)

    def failed(self, check: str) -> bool:
        return self._answers.get(check) is False

    def judgement(self, asked: frozenset[str]) -> Judgement:
        """Return all findings with their verdict.

        A check in ``asked`` that was not made leaves the verdict incomplete.
        """
        answers = {check: self._answers.get(check, NOT_CHECKED) for check in CHECKS}
        return msgspec.convert(
            {
                "outcome": combine(answers, asked).value,
                "asked": [check for check in CHECKS if check in asked],
                **answers,
                "reasons": {
                    check: self._all_reasons(check) for check in CHECKS if check in self._reasons
                },
                "about": {
                    name: printable(value) if isinstance(value, str) else value
                    for name, value in self.about.items()
                },
                "warnings": [printable(warning) for warning in self.warnings],
            },
            Judgement,
        )

    def _add_reason(self, check: str, reason: str) -> None:
        reasons = self._reasons.setdefault(check, [])
        if len(reasons) < REASONS_MAX:
            reasons.append(printable(reason))
        else:
            self._more[check] = self._more.get(check, 0) + 1

    def _all_reasons(self, check: str) -> tuple[str, ...]:
        more = self._more.get(check)
        return (*self._reasons[check], *([f"and {more} more"] if more else []))


def unreadable(reason: str) -> Judgement:
    """Return the judgement without a verdict, for bytes that can't be read."""
    return Judgement("unreadable", unreadable=printable(reason))


def printable(text: str) -> str:
    """Make outside text safe for a terminal: no control characters, and a bounded length."""
    shown = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
    return shown if len(shown) <= _REASON_CHARS_MAX else shown[: _REASON_CHARS_MAX - 1] + "…"
