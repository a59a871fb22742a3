"""Compares rows that decide with the register: none is older than its newest change, none missing.

Rows are read under the snapshot of the verification, the register is newer. So a row that differs
is read again before it is called wrong: it may have been changed since.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ledger.core.register import API_KEYS, BLOCKS, ORG_LIMITS, ORGS, Register
from ledger.rows import Value
from ledger.storage import address_blocks, api_keys, org_limits, orgs
from ledger.storage.judged_rows import JudgedTable

KEY_COLUMN: Final = {ORGS: "slug", API_KEYS: "id", ORG_LIMITS: "org_id", BLOCKS: "digest"}
"""By which column the register names the rows of a table."""
_MAC_OF: Final = {
    ORGS: orgs.mac_of,
    API_KEYS: api_keys.mac_of,
    ORG_LIMITS: org_limits.mac_of,
    BLOCKS: address_blocks.mac_of,
}


class NewestRows:
    """The rows of an org that a verification met, by table and key as the register names them."""

    def __init__(self, register: Register) -> None:
        self.register = register
        self._met: dict[str, set[str]] = {table: set() for table in KEY_COLUMN}

    async def older(self, judged: JudgedTable, page: Sequence[Sequence[Value]]) -> list[str]:
        """Return the keys of the rows that are not their newest."""
        table = judged.table.name
        if table not in KEY_COLUMN:
            return []
        at = judged.table.columns.index(KEY_COLUMN[table])
        macs = {_text(row[at]): row[-1] for row in page}
        self._met[table] |= macs.keys()
        if (
            table == BLOCKS
        ):  # of one that ended long ago the register knows nothing, and none decides
            macs = {key: mac for key, mac in macs.items() if self.register.has(table, key)}
        differ = [
            key for key, mac in macs.items() if not self.register.knows(table, key, _bytes(mac))
        ]
        return [
            f"{KEY_COLUMN[table]} {key}" for key in differ if not await self._is_newest(table, key)
        ]

    async def missing(self, org_id: int) -> list[tuple[str, str]]:
        """Return table and name of each row of an org, or of the platform, that is not there."""
        return [
            (table, f"{column} {key}")
            for table, column in KEY_COLUMN.items()
            for owner in (org_id, None)
            for key in self.register.state.keys(table, owner)
            if key not in self._met[table] and not await self._is_newest(table, key)
        ]

    async def _is_newest(self, table: str, key: str) -> bool:
        """Read a row again, and return whether it has the MAC of its newest change."""
        read = _MAC_OF[table]

        async def facts() -> list[tuple[str, str, bytes]]:
            return [(table, key, await read(self.register.database, key))]

        found = await self.register.settled(facts, list)
        return all(self.register.knows(*fact) for fact in found)


def _text(value: Value) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def _bytes(value: Value) -> bytes:
    return value if isinstance(value, bytes) else b""
