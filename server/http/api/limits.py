"""Rate limits of an org as the API reads and shows them."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from server.access.limits.known import OrgRates
from server.access.limits.rules import PerMinute
from server.access.limits.settings import MOST

CountAMinute = Annotated[int, Meta(ge=1, le=MOST, examples=[600])]


class RatesBody(Struct, forbid_unknown_fields=True):
    """How often a minute; null: no limit."""

    append_per_minute: CountAMinute | None = None
    """Requests that append, whatever the number of their events; null: no limit."""
    read_per_minute: CountAMinute | None = None
    """Requests that read, bundles included; null: no limit."""
    verify_per_minute: CountAMinute | None = None
    """Verifications, of the trail or of one entry; null: no limit."""


class LimitsBody(Struct, forbid_unknown_fields=True):
    """The rate limits of an org."""

    key: RatesBody
    """What each API key of the org may do."""
    org: RatesBody
    """What all API keys of the org together may do."""


def limits_body(rates: OrgRates) -> LimitsBody:
    """Return limits as the API shows them."""
    return LimitsBody(_body(rates.key), _body(rates.org))


def asked_rates(body: LimitsBody) -> OrgRates:
    """Return the limits that a body asks for."""
    return OrgRates(_rates(body.key), _rates(body.org))


def _body(rates: PerMinute) -> RatesBody:
    return RatesBody(*(count or None for count in rates))


def _rates(body: RatesBody) -> PerMinute:
    counts = body.append_per_minute, body.read_per_minute, body.verify_per_minute
    return PerMinute(*(count or 0 for count in counts))
