"""Counts requests by org, API key and address, and notes what is a security event.

Every request comes here at least once: a look into a dictionary each time.
"""

from __future__ import annotations

from typing import Final

from ledger.core.org import OrgFacts
from ledger.core.register import Register
from server.access.callers.notes import Cause, NotePlace, SecurityNotes
from server.access.callers.traffic import NOBODY, TrafficCounts
from server.access.principal import Principal

NOT_FOUND: Final = "not_found"
TOO_MANY: Final = "too_many_requests"
REFUSED_EVENTS: Final = {
    "no_key": "authentication_refused",
    "invalid_key": "authentication_refused",
    NOT_FOUND: "cross_tenant_refused",
    "address_blocked": "blocked_address_refused",
    TOO_MANY: "rate_limit_exceeded",
}
"""The kinds of security events of refused requests, by the reason of the refusal."""
Admitted = tuple[OrgFacts | None, Principal | None]
"""The org and the principal of a request that was let in; neither of an open route."""


class CallerWatch:
    """Counts and notes the acts of callers of one process: ``services.callers``.

    An address is given by its group. What concerns no org belongs to the org `system`.
    """

    def __init__(self, register: Register) -> None:
        self.notes = SecurityNotes()
        self.traffic = TrafficCounts()
        self._register = register

    def admitted(self, admitted: Admitted, group: str) -> None:
        """Count a request that was let in; those of open routes are not counted."""
        org, principal = admitted
        if principal is not None:
            org_id = principal.org_id if org is None else org.id
            self.traffic.admitted(org_id or self.system_id, principal.key_id, group)
        elif org is not None:
            self.traffic.admitted(org.id, NOBODY, group)

    def refused(self, org_id: int | None, key_id: str | None, group: str, reason: str) -> None:
        """Count a refused request, by the key that it names, valid or not, and the key's org."""
        if reason == TOO_MANY and key_id is not None:
            # Who has a key, but calls too often, is no stranger who tries keys.
            self.traffic.failed(org_id or self.system_id, key_id, group)
        else:
            self.traffic.refused(org_id or self.system_id, key_id or NOBODY, group)
        kind = REFUSED_EVENTS.get(reason)
        if reason == NOT_FOUND and org_id is None:
            return  # the platform's key asked for an org that does not exist
        if kind is not None:
            place = NotePlace(org_id or self.system_id, kind, key_id, group)
            self.notes.note(place, Cause(reason))

    def failed(
        self, admitted: Admitted, group: str, kind: str | None = None, reason: str = ""
    ) -> None:
        """Count a failure of a request that was let in, and note it as a kind of security event."""
        org, principal = admitted
        if org is None and principal is None:
            return
        org_id = org.id if org is not None else principal.org_id if principal is not None else None
        key_id = None if principal is None else principal.key_id
        self.traffic.failed(org_id or self.system_id, key_id or NOBODY, group)
        if kind is not None:
            place = NotePlace(org_id or self.system_id, kind, key_id, group)
            self.notes.note(place, Cause(reason))

    @property
    def system_id(self) -> int:
        """The id of the org `system`; 0 before there is one."""
        return self._register.system_id or 0
