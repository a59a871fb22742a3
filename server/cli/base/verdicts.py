"""Shows verdicts and checks, and ends commands with the exit code of a verdict.

Every command with a verdict uses this module, so that each word has one meaning
(docs/verification.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import click
from rich.text import Text

from ledger.verdict import NOT_CHECKED, Verdict

_STYLES: Final = {
    Verdict.VERIFIED: "bold green",
    Verdict.REFUTED: "bold red",
    Verdict.INCOMPLETE: "bold yellow",
}
_ANSWERS: Final = {
    True: Text("true", style="green"),
    False: Text("FALSE", style="bold red"),
}


def verdict_text(verdict: str, of: str = "") -> Text:
    """Return the verdict in capitals, coloured on a terminal, after the name ``of``."""
    word = Verdict(verdict)
    shown = Text(f"{of}: " if of else "")
    return shown.append(word.upper(), style=_STYLES[word])


def check_fields(
    checks: Mapping[str, object], reasons: Mapping[str, str] | None = None
) -> list[tuple[str, Text]]:
    """Return checks under their documented names, with the reason for one that was not made."""
    return [(name, _answer(answer, (reasons or {}).get(name))) for name, answer in checks.items()]


def end(verdict: str) -> None:
    """End the command with the exit code of its verdict."""
    code = Verdict(verdict).exit_code
    if code:
        raise click.exceptions.Exit(code)


def _answer(answer: object, reason: str | None) -> Text:
    if isinstance(answer, bool):
        return _ANSWERS[answer]
    assert answer == NOT_CHECKED, "a check is true, false or not_checked"
    return Text("not checked" + (f": {reason}" if reason else ""))
