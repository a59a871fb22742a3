"""Changes of the limits of orgs, each in one transaction with its entry in the trail `system`."""

from __future__ import annotations

from typing import Final

from ledger.core.org import OrgFacts
from ledger.core.register import ORG_LIMITS, Change, ChangeKind
from ledger.core.register.changes import SERVER, row
from ledger.core.sequencer import RowEffect
from ledger.storage import org_limits
from ledger.storage.org_limits import OrgLimitsRow
from server.access.administration import Administration, Conflict, refusing
from server.access.limits.known import OrgRates, rates_of
from server.access.limits.rules import PerMinute
from server.access.principal import Forbidden, Principal

_NAMES: Final = PerMinute._fields


def require_within(asked: OrgRates, *allowed: OrgRates) -> None:
    """Raise Forbidden where a limit is looser than all that are allowed; none is the loosest.

    An org's own admin may tighten its limits, and loosen them up to those that the settings give to
    orgs without any, or that the platform set for this org.
    """
    for part in ("key", "org"):
        for name, count, *most in zip(
            _NAMES, getattr(asked, part), *(getattr(each, part) for each in allowed), strict=True
        ):
            if 0 in most or 0 < count <= max(most):
                continue
            raise Forbidden(
                f"{part}.{name}_per_minute can be at most {max(most):,} for this org, and not null; "
                "ask the operator of this server, whose platform key may set more"
            )


class LimitChanges:
    """Writes the limits of orgs. Its method raises as :meth:`Administration.record` does."""

    def __init__(self, administration: Administration) -> None:
        self._administration = administration

    async def set(
        self, org: OrgFacts, asked: OrgRates, actor: str = SERVER, *, by: Principal | None = None
    ) -> OrgRates:
        """Set all limits of an org. Raises Conflict where another request set them meanwhile.

        A row that was changed in the database is replaced: this repairs it.
        """
        changed = OrgLimitsRow(org.id, *asked.key, *asked.org)
        database, register = self._administration.database, self._administration.register
        found = await org_limits.of_org(database, org.id)
        mac = changed.mac(register.row_key)
        conflict = Conflict("the limits of the org were changed by another request; try again")
        effect = RowEffect(
            org_limits.setting(changed, mac, None if found is None else found.mac),
            refusing(conflict),
        )
        change = Change([row(ORG_LIMITS, str(org.id), mac)], org_id=org.id)
        details = {
            "org": org.slug,
            "key_limits": _told(asked.key),
            "org_limits": _told(asked.org),
        }
        kind = ChangeKind.LIMITS_CHANGED
        await self._administration.record(kind, change, details, effect, actor, by=by)
        return rates_of(changed, mac)


def _told(rates: PerMinute) -> dict[str, int | None]:
    return {f"{name}_per_minute": count or None for name, count in zip(_NAMES, rates, strict=True)}
