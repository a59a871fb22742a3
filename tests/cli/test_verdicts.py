"""Commands show a verdict as one word with its colour and its exit code."""

from __future__ import annotations

import click
import pytest
from rich.console import Console

from ledger.verdict import NOT_CHECKED, Verdict
from server.cli.base import verdicts

RED, GREEN, YELLOW = "\x1b[1;31m", "\x1b[1;32m", "\x1b[1;33m"


def shown(text: object) -> str:
    console = Console(force_terminal=True, color_system="standard", highlight=False)
    with console.capture() as captured:
        console.print(text)
    return captured.get()


@pytest.mark.parametrize(
    ("verdict", "colour"), [("refuted", RED), ("verified", GREEN), ("incomplete", YELLOW)]
)
def test_a_verdict_is_never_plain_on_a_terminal(verdict: str, colour: str) -> None:
    text = shown(verdicts.verdict_text(verdict, "acme"))
    assert text.startswith(f"acme: {colour}{verdict.upper()}")


def test_checks_have_the_names_of_the_documentation_and_say_why() -> None:
    checks = {"pq_signature": NOT_CHECKED, "hashes": True, "links": False}
    fields = dict(verdicts.check_fields(checks, {"pq_signature": "no anchor yet"}))
    assert list(fields) == list(checks)
    assert [text.plain for text in fields.values()] == [
        "not checked: no anchor yet",
        "true",
        "FALSE",
    ]
    assert RED in shown(fields["links"])


@pytest.mark.parametrize("verdict", list(Verdict))
def test_a_command_ends_with_the_code_of_its_verdict(verdict: Verdict) -> None:
    if verdict is Verdict.VERIFIED:
        verdicts.end(verdict)
        return
    with pytest.raises(click.exceptions.Exit) as ended:
        verdicts.end(verdict)
    assert ended.value.exit_code == verdict.exit_code
