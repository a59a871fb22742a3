"""The offline page ``verify.html``, which verifies a bundle in a browser.

Its parts are joined here: ``markup.html`` has one line for each other part, which the part
replaces. Bundles contain the joined page, and ``/verify`` serves it.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Final

POLICY: Final = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'"
)
"""The content security policy in the page itself: the page can't use the network."""
MARKUP: Final = "markup.html"
PARTS: Final = {
    "style.css": b"/* style.css */\n",
    "checks.js": b"// checks.js\n",
    "view.js": b"// view.js\n",
}
"""Each part, and the line of the markup that it replaces."""


@cache
def verify_page() -> bytes:
    """Return the joined page, UTF-8 HTML, as in bundles and at ``/verify``."""
    page = _read(MARKUP)
    for name, line in PARTS.items():
        before, found, after = page.partition(line)
        assert found, f"{MARKUP} has a line for {name}"
        page = before + _read(name) + after
    return page


def _read(name: str) -> bytes:
    return files(__name__).joinpath(name).read_bytes()
