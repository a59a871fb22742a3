"""Finds imported QWED rows by the integer ids that QWED gave them."""

from __future__ import annotations

from typing import Final, cast

from ledger.core.reading.qwed_rows import FoundRow, TooFarBack
from ledger.entry import RecordId, from_datetime, parse_record_id, record_id
from ledger.errors import FormatError
from server.access.directory import NotFound
from server.access.principal import Principal
from server.http.api.verifications import ImportedRowBody, RowOutcome
from server.http.problems import BadRequest
from server.trails.services import Services

MISSING: Final = "there is no such entry for this key"


async def named_entry(
    services: Services, principal: Principal, name: str
) -> tuple[RecordId, ImportedRowBody | None]:
    """Return the entry of a record id, or that of an imported row's id with the row's verdict.

    Raises NotFound, and BadRequest if the name is ambiguous.
    """
    if name.isascii() and name.isdecimal():
        found = await _row(services, principal, name)
        place = RecordId(
            found.entry.org_id, from_datetime(found.entry.anchored_at), found.entry.seq
        )
        row = ImportedRowBody(
            found.organization_id,
            found.row_id,
            cast("RowOutcome | None", found.outcome),
            found.corrected_by,
        )
        return place, row
    try:
        return parse_record_id(name), None
    except FormatError:
        raise NotFound(MISSING) from None


async def _row(services: Services, principal: Principal, row_id: str) -> FoundRow:
    if principal.org_id is None:
        raise BadRequest(
            "a row id belongs to one org: use an API key of the org, or the entry's record id"
        )
    try:
        found = await services.qwed_rows.find(principal.org_id, row_id)
    except TooFarBack as error:
        raise BadRequest(str(error)) from error
    if not found:
        raise NotFound(MISSING)
    if len(found) > 1:
        names = ", ".join(map(_described, found))
        raise BadRequest(f"several entries hold a row {row_id}; use their record ids: {names}")
    return found[0]


def _described(row: FoundRow) -> str:
    entry = row.entry
    name = record_id(entry.org_id, from_datetime(entry.anchored_at), entry.seq)
    return f"{name} (QWED organization {row.organization_id})"
