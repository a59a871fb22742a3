"""An org with QWED's audit log in its trail: imported rows, verdicts, and what lies between."""

from __future__ import annotations

from typing import Any

from ledger.qwed import QwedRow, TrailVerifier
from ledger.qwed.event import correcting_event, imported_event
from tests.qwed_writer import COLUMNS, SECRET, values
from tests.support.serving import PeerAnswer, Server


class QwedOrg:
    """An org of a running server, and its audit log as a caller reads it."""

    def __init__(self, server: Server, privacy: str = "plain") -> None:
        self.server = server
        self.slug, self.key = server.create_org(privacy)

    def append(self, *events: dict[str, Any]) -> list[dict[str, Any]]:
        """Append events as a batch; returns the receipts."""
        path = f"/v1/orgs/{self.slug}/entries"
        answer = self.server.request("POST", path, list(events), key=self.key)
        assert answer.status == 201, answer.body
        receipts: list[dict[str, Any]] = answer.json()["entries"]
        return receipts

    def get(self, path: str, key: str | None = None) -> PeerAnswer:
        return self.server.request("GET", path, key=key or self.key)

    def json(self, path: str, key: str | None = None) -> Any:
        answer = self.get(path, key)
        assert answer.status == 200, answer.body
        return answer.json()

    def logs(self, query: str = "") -> list[dict[str, Any]]:
        """Every row, page after page."""
        rows: list[dict[str, Any]] = []
        before = ""
        while True:
            page = self.json(f"/audit/logs?{query}{before}")
            rows += page["logs"]
            if page["next_before"] is None:
                return rows
            before = f"&before={page['next_before']}"


def imported(rows: list[QwedRow]) -> list[dict[str, Any]]:
    """The events with which `quire import qwed` imports rows."""
    verifier = TrailVerifier(1, [SECRET])
    return [imported_event(1, row, verifier.check(row)) for row in map(_stored, rows)]


def _stored(row: QwedRow) -> QwedRow:
    """A row as it is read from a table."""
    return QwedRow.from_columns(dict(zip(COLUMNS, values(row), strict=True)))


def corrected(row: QwedRow, rows: list[QwedRow], record_id: str) -> dict[str, Any]:
    """The event that corrects the verdict of a row, whose trail is given."""
    verifier = TrailVerifier(1, [SECRET])
    verdicts = [verifier.check(each) for each in rows]
    return correcting_event(1, record_id, verdicts[rows.index(row)])


def verdict(number: int, word: str = "verified", **more: Any) -> dict[str, Any]:
    """A verdict of an engine, as docs/qwed.md describes its entry."""
    return {
        "event_type": "verification.verdict",
        "action": "verify.math",
        "outcome": word,
        "actor": "key:9f86d081884c7d65",
        "request": {"expression": f"{number} + 1"},
        "verdict": word.upper(),
        **more,
    }
