"""Formats a judgement as JSON for programs and as a table for people."""

from __future__ import annotations

import shutil
import textwrap
from typing import Final

import msgspec

from ledger.evidence.verdict import Judgement, printable
from ledger.verdict import NOT_CHECKED, Check, Verdict

WIDTH_MAX: Final = 110
_CHECK, _RESULT = 21, 13
_SUMMARY: Final = {
    Verdict.VERIFIED: "every check that was asked for was made and holds",
    Verdict.REFUTED: "at least one thing that was checked is false",
    Verdict.INCOMPLETE: "nothing that was checked is false, but this was not checked: {}",
}
_WORDS: Final[dict[Check, str]] = {True: "true", False: "FALSE", NOT_CHECKED: "not checked"}
_RESET: Final = "\x1b[0m"
_COLOURS: Final[dict[Verdict | Check, str]] = {
    Verdict.VERIFIED: "\x1b[1;32m",
    Verdict.REFUTED: "\x1b[1;31m",
    Verdict.INCOMPLETE: "\x1b[1;33m",
    True: "\x1b[32m",
    False: "\x1b[1;31m",
    NOT_CHECKED: "\x1b[33m",
}


def as_json(judgement: Judgement) -> str:
    """Return one JSON object: verdict and exit code, every check, reasons, warnings."""
    fields = {
        "verdict": judgement.verdict,
        "exit_code": judgement.exit_code,
        "checks": judgement.answers(),
        "asked": judgement.asked,
        "reasons": judgement.reasons,
        "about": judgement.about,
        "warnings": judgement.warnings,
        "unreadable": judgement.unreadable,
    }
    return msgspec.json.format(msgspec.json.encode(fields), indent=2).decode() + "\n"


def as_text(judgement: Judgement, name: str, *, colour: bool = False) -> str:
    """Return the table of checks, as wide as the terminal, the warnings, and the verdict.

    ``name`` is the file or URL that was verified.
    """
    width = max(60, min(WIDTH_MAX, shutil.get_terminal_size((WIDTH_MAX, 24)).columns))
    lines = [printable(name), *_about(judgement, width), ""]
    lines += [f"{'check':{_CHECK}}{'result':{_RESULT}}why", "-" * width]
    for check, answer in judgement.answers().items():
        lines += _row(check, answer, judgement.reasons.get(check, ()), width, colour=colour)
    for warning in judgement.warnings:
        lines += ["", *textwrap.wrap(f"Warning: {warning}.", width)]
    return "\n".join([*lines, "", *_verdict(judgement, width, colour=colour), ""])


def _about(judgement: Judgement, width: int) -> list[str]:
    facts = ", ".join(f"{name} {value}" for name, value in judgement.about.items())
    return textwrap.wrap(printable(facts), width, break_on_hyphens=False)


def _row(
    check: str, answer: Check, reasons: tuple[str, ...], width: int, *, colour: bool
) -> list[str]:
    wrapped: list[str] = []
    for reason in reasons:
        wrapped += textwrap.wrap(reason, width - _CHECK - _RESULT, break_on_hyphens=False)
    first, *rest = wrapped or [""]
    result = _coloured(f"{_WORDS[answer]:{_RESULT}}", answer, colour=colour)
    return [f"{check:{_CHECK}}{result}{first}".rstrip()] + [
        " " * (_CHECK + _RESULT) + line for line in rest
    ]


def _verdict(judgement: Judgement, width: int, *, colour: bool) -> list[str]:
    assert judgement.verdict is not None
    missing = ", ".join(judgement.unchecked)
    summary = f"{judgement.verdict.upper()}: {_SUMMARY[judgement.verdict].format(missing)}"
    lines = textwrap.wrap(summary, width)
    return [_coloured(line, judgement.verdict, colour=colour) for line in lines]


def _coloured(text: str, of: Verdict | Check, *, colour: bool) -> str:
    return f"{_COLOURS[of]}{text}{_RESET}" if colour else text
