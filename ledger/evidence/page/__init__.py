"""The offline page: a bundle verified in a browser, by ``verify.html`` alone."""

from __future__ import annotations

from importlib.resources import files
from typing import Final

POLICY: Final = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'"
)
"""The content security policy that the page states itself: it can reach no network."""


def verify_page() -> bytes:
    """The page, UTF-8 HTML in one piece: what bundles hold and ``/verify`` answers."""
    return files(__name__).joinpath("verify.html").read_bytes()
