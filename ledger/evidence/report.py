"""A verdict told: as JSON for programs, as a table for people."""

from __future__ import annotations

import shutil
import textwrap
from typing import Final

import msgspec

from ledger.evidence.verdict import NOT_CHECKED, Answer, Verdict, printable

WIDTH_MAX: Final = 110
_CHECK, _RESULT = 21, 13
_SUMMARY: Final = {
    "verified": "VERIFIED: every check that was asked for holds",
    "refuted": "REFUTED: this is not what was signed, or not as it says it is",
    "unreadable": "UNREADABLE: nothing was checked",
    "verified_in_part": "VERIFIED IN PART: nothing is wrong, and not everything was checked",
}
_WORDS: Final[dict[Answer, str]] = {True: "true", False: "FALSE", NOT_CHECKED: "not checked"}


def as_json(verdict: Verdict) -> str:
    """One object: outcome and exit code, every check, reasons, warnings."""
    told = {
        "outcome": verdict.outcome,
        "exit_code": verdict.exit_code,
        "checks": verdict.answers(),
        "reasons": verdict.reasons,
        "about": verdict.about,
        "warnings": verdict.warnings,
        "unreadable": verdict.unreadable,
    }
    return msgspec.json.format(msgspec.json.encode(told), indent=2).decode() + "\n"


def as_text(verdict: Verdict, what: str) -> str:
    """The verdict table, as wide as the terminal, and what to keep in mind."""
    width = max(60, min(WIDTH_MAX, shutil.get_terminal_size((WIDTH_MAX, 24)).columns))
    lines = [printable(what), *_about(verdict, width), ""]
    if verdict.unreadable is not None:
        lines += textwrap.wrap(verdict.unreadable, width)
    else:
        lines += [f"{'check':{_CHECK}}{'result':{_RESULT}}why", "-" * width]
        for check, answer in verdict.answers().items():
            lines += _row(check, answer, verdict.reasons.get(check, ()), width)
    for warning in verdict.warnings:
        lines += ["", *textwrap.wrap(f"Warning: {warning}.", width)]
    return "\n".join([*lines, "", _SUMMARY[verdict.outcome], ""])


def _about(verdict: Verdict, width: int) -> list[str]:
    said = ", ".join(f"{name} {value}" for name, value in verdict.about.items())
    return textwrap.wrap(printable(said), width, break_on_hyphens=False)


def _row(check: str, answer: Answer, reasons: tuple[str, ...], width: int) -> list[str]:
    told: list[str] = []
    for reason in reasons:
        told += textwrap.wrap(reason, width - _CHECK - _RESULT, break_on_hyphens=False)
    first, *rest = told or [""]
    start = f"{check.replace('_', ' '):{_CHECK}}{_WORDS[answer]:{_RESULT}}"
    return [(start + first).rstrip(), *(" " * (_CHECK + _RESULT) + line for line in rest)]
