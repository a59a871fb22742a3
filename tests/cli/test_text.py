"""Text from outside is made safe before it is printed on a terminal."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.cli.base import output
from server.cli.base.text import count, printable


@given(st.text(st.characters(codec=None)))
def test_printed_text_is_printable(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert shown == text or not text.isprintable()
    assert printable(text, keep_lines=True).replace("\n", "").isprintable()


def test_an_escape_sequence_is_shown_not_executed() -> None:
    assert printable("\x1b[31mred\u202e\r\n\ud800") == "\\x1b[31mred\\u202e\\r\\n\\ud800"


def test_a_cell_is_text_and_not_markup(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table([output.TableColumn("Actor")], [("[red]:smile:\x1b[2J",)])
    assert capsys.readouterr().out.splitlines()[-1] == "[red]:smile:\\x1b[2J"


def test_a_document_is_one_line_whatever_an_event_holds(
    capsys: pytest.CaptureFixture[str],
) -> None:
    document = {"payload": msgspec.Raw(b'{\n "a":\r\n "b\\n",\n "n": 1.0}')}
    output.print_json(document)
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line) == {"payload": {"a": "b\n", "n": 1.0}}
    assert '"n":1.0' in line


def test_counts() -> None:
    assert [count(n, "entry", "entries") for n in (0, 1, 2000)] == [
        "0 entries",
        "1 entry",
        "2,000 entries",
    ]
