"""The offline page: a bundle verified in a browser, by ``verify.html`` alone.

It is written in parts and joined here: ``markup.html`` has a line for each of the others, which
stands where that part goes. Bundles and ``/verify`` have the joined page.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Final

POLICY: Final = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'"
)
"""The content security policy that the page states itself: it can reach no network."""
MARKUP: Final = "markup.html"
PARTS: Final = {
    "style.css": b"/* style.css */\n",
    "checks.js": b"// checks.js\n",
    "view.js": b"// view.js\n",
}
"""Each part, and the line of the markup that it replaces."""


@cache
def verify_page() -> bytes:
    """The page, UTF-8 HTML in one piece: what bundles hold and ``/verify`` answers."""
    page = _read(MARKUP)
    for name, line in PARTS.items():
        before, found, after = page.partition(line)
        assert found, f"{MARKUP} has a line for {name}"
        page = before + _read(name) + after
    return page


def _read(name: str) -> bytes:
    return files(__name__).joinpath(name).read_bytes()
