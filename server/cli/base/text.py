"""Text from outside, made safe for a terminal.

The author of an event chooses its actor and other values. Unescaped, a control sequence in them
could hide or forge lines on an operator's terminal.
"""

from datetime import UTC, datetime
from typing import Final

FORGED: Final = "refused: changed in the database"
"""The state of what a row says that this server did not write."""


def printable(text: str, *, keep_lines: bool = False) -> str:
    r"""Return the text with every character that does not print as an escape (`\x1b`).

    With `keep_lines` the line ends stay as they are.
    """
    if text.isprintable():
        return text
    return "".join(
        character
        if character.isprintable() or (keep_lines and character == "\n")
        else _escape(character)
        for character in text
    )


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def moment(time: datetime | None) -> str:
    """Format a time in UTC, to the second; a dash for None."""
    return "-" if time is None else time.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def count(number: int, singular: str, plural: str | None = None) -> str:
    """Format a number with its noun: `1 entry`, `2,000 entries`."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"
