"""The offline page as auditors use it: a file, opened in a browser, with files chosen in it."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from ledger.evidence.page import verify_page
from ledger.verdict import Check
from tests.support.browser import Browser

_DONE: Final = "!['none', 'working'].includes(document.getElementById('main').dataset.outcome)"
_ASK: Final = """
const bytes = encoded => Uint8Array.from(atob(encoded), char => char.charCodeAt(0));
const [bundle, keys] = arguments;
const trust = keys === null ? null : await readTrust(bytes(keys));
const run = { breathed: performance.now(), current: () => true, progress() {} };
const verdict = await verifyBundle(new File([bytes(bundle)], 'bundle.zip'), trust, run);
return { outcome: verdict.outcome, answers: verdict.answers, reasons: verdict.reasons,
         unreadable: verdict.unreadable };
"""
_TOLD: Final = """
const text = id => document.getElementById(id).innerText;
return { outcome: document.getElementById('main').dataset.outcome, headline: text('headline'),
         meaning: text('meaning'), causes: text('causes'), warnings: text('warnings'),
         checks: [...document.querySelectorAll('#checks tr')].map(
           row => [row.dataset.check, row.dataset.answer, row.cells[1].innerText, row.cells[2].innerText]) };
"""


@dataclass(frozen=True)
class PageDisplay:
    """The page's display for a bundle."""

    outcome: str
    headline: str
    meaning: str
    causes: str
    warnings: str
    answers: dict[str, str]
    """"true", "false" or "not_checked" by check."""
    results: dict[str, str]
    """The displayed text by check."""
    why: dict[str, str]


class OfflinePage:
    """The page, loaded from a file below ``folder`` in a browser's window."""

    def __init__(self, window: Browser, folder: Path) -> None:
        self.window = window
        self._folder = folder
        self._page = folder / "verify.html"
        self._page.write_bytes(verify_page())

    def open(self) -> None:
        """Load the page again, with nothing chosen."""
        self.window.open(self._page.as_uri())

    def choose(self, bundle: bytes, name: str = "bundle.zip") -> None:
        """Choose a bundle, without waiting for the verdict."""
        self.window.choose_file("#bundle-file", self.file(bundle, name))

    def trust(self, keys: bytes, name: str = "keys.json") -> None:
        """Choose the keys to trust, and wait until the page has judged with them."""
        self.window.choose_file("#trust-file", self.file(keys, name))
        self.window.wait("!document.getElementById('trust-drop').hidden")

    def check(
        self, bundle: bytes, keys: bytes | None = None, name: str = "bundle.zip"
    ) -> PageDisplay:
        """Open the page, choose keys and a bundle, and read the display."""
        self.open()
        if keys is not None:
            self.trust(keys)
        self.choose(bundle, name)
        return self.display()

    def display(self) -> PageDisplay:
        """Wait until the page is done; returns its display."""
        self.window.wait(_DONE)
        shown: dict[str, Any] = self.window.run(_TOLD)
        checks = shown.pop("checks")
        return PageDisplay(
            **shown,
            answers={check: answer for check, answer, _, _ in checks},
            results={check: result for check, _, result, _ in checks},
            why={check: why for check, _, _, why in checks},
        )

    def judge(self, bundle: bytes, keys: bytes | None = None) -> tuple[str, dict[str, Check], str]:
        """Judge without display; returns the outcome, the answers, and all reasons in one text."""
        encoded = [
            None if data is None else base64.b64encode(data).decode() for data in (bundle, keys)
        ]
        verdict = self.window.run(_ASK, *encoded)
        reasons = " / ".join(
            [str(verdict["unreadable"] or ""), *map(str, verdict["reasons"].values())]
        )
        return verdict["outcome"], verdict["answers"], reasons

    def file(self, data: bytes, name: str) -> Path:
        """Write a file with this name into a folder of its own."""
        folder = self._folder / uuid4().hex[:8]
        folder.mkdir()
        path = folder / name
        path.write_bytes(data)
        return path
