"""Bodies of administrative routes: what no table can store is refused before a route sees it."""

import msgspec
import pytest

from server.http.bodies import decoded
from server.http.problems import BadRequest


class Note(msgspec.Struct):
    """A body that states no limits of its text."""

    text: str
    more: list[str] = []


@pytest.mark.parametrize("text", [r"\u0000", r"a\u0000b", r"\\\u0000", r"\"\u0000"])
def test_the_character_that_a_table_can_t_hold_is_refused(text: str) -> None:
    with pytest.raises(BadRequest, match=r"^text has a control character, U\+0000"):
        decoded(b'{"text":"%b"}' % text.encode(), Note)


@pytest.mark.parametrize("text", [r"\\u0000", r"\\\\u0000", "u0000", r"\u0001", r"\u00010000"])
def test_text_that_only_looks_like_it_is_accepted(text: str) -> None:
    assert decoded(b'{"text":"%b"}' % text.encode(), Note).text


def test_the_member_is_named() -> None:
    with pytest.raises(BadRequest, match=r"^more\[1\] has a control character"):
        decoded(b'{"text":"","more":["a","b\\u0000"]}', Note)
