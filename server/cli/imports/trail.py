"""Imports a QWED trail into an org: its rows as entries, each with its verdict.

The trail is read twice. The survey verifies it, compares it with the rows that the
org holds, and writes nothing: an import with a wrong secret or from another database
ends there. The second pass sends new rows and corrected verdicts.

Stopping is safe at any time: the next run reads the org's newest imported row and continues
after it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Protocol

from ledger.client import AsyncLedgerClient
from ledger.errors import QuireError
from ledger.qwed import QwedRow, TrailEnd, TrailVerifier
from server.cli.imports.known import BrokenRows, KnownRows, read_known
from server.cli.imports.reading import CountingWriter, ImportOutcome, Progress, Reading, RowWriter
from server.cli.imports.sending import SendingWriter


class WrongSecret(QuireError):
    """A secret that signed no row of a trail whose hashes hold."""


class OtherDatabase(QuireError):
    """A QWED database whose rows are not those that the org holds under the same ids."""


class RowSource(Protocol):
    """The source of an organization's rows, which can be read several times."""

    async def newest(self, organization_id: int) -> int | None:
        """Return the highest row id, None where there are no rows."""
        ...

    def rows(self, organization_id: int) -> AsyncGenerator[QwedRow, None]:
        """Yield the rows in the order of their ids."""
        ...


@dataclass(frozen=True, slots=True)
class ImportedTrail:
    """The trail to import; ``secrets`` maps each secret to the name of its variable."""

    organization_id: int
    secrets: Mapping[bytes, str]
    end: TrailEnd


class TrailImport:
    """One import of a trail into the org of a client."""

    def __init__(
        self, client: AsyncLedgerClient, source: RowSource, trail: ImportedTrail, progress: Progress
    ) -> None:
        self._client = client
        self._source = source
        self._trail = trail
        self._progress = progress

    async def run(self, *, dry_run: bool) -> ImportOutcome:
        """Import the trail; a dry run counts what an import would do.

        Raises WrongSecret and OtherDatabase before anything is written, and other
        QuireErrors at any time.
        """
        organization_id = self._trail.organization_id
        newest = await self._source.newest(organization_id)
        known = await read_known(self._client, organization_id, newest)
        survey = await self._read(known, CountingWriter())
        _refuse_other_database(survey, known, self._trail)
        _refuse_wrong_secrets(survey, self._trail)
        if dry_run or not survey.outcome.would_write:
            return survey.outcome
        return (await self._read(known, SendingWriter(self._client, organization_id))).outcome

    async def _read(self, known: KnownRows, writer: RowWriter) -> Reading:
        trail = self._trail
        verifier = TrailVerifier(trail.organization_id, trail.secrets, trail.end)
        broken = BrokenRows(self._client, trail.organization_id)
        reading = Reading(verifier, known, broken, writer, self._progress)
        await reading.run(self._source.rows(trail.organization_id))
        return reading


def _refuse_other_database(survey: Reading, known: KnownRows, trail: ImportedTrail) -> None:
    if known.newest_id is None or not survey.outcome.report.total_entries:
        return
    if survey.compared is None:
        reason = f"it has none of the newest rows that were imported, up to row {known.newest_id}"
    elif not survey.same:
        reason = f"its row {survey.compared} is not the row that was imported under this id"
    else:
        return
    raise OtherDatabase(
        f"organization {trail.organization_id} of this QWED database is not the organization whose "
        f"trail the org holds: {reason}. Nothing was imported. Use the database that the trail "
        "came from, or import this trail into another org"
    )


def _refuse_wrong_secrets(survey: Reading, trail: ImportedTrail) -> None:
    names = list(trail.secrets.values())
    wrong = [names[place] for place in survey.wrong_secrets]
    if wrong:
        raise WrongSecret(
            f"the secret in {' and in '.join(wrong)} signed no row of this trail, and rows with "
            "valid hashes have other signatures. Nothing was imported. Give the secret that QWED "
            "signs with, and each earlier secret with its own --secret-env"
        )
