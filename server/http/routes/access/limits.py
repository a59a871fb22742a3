"""The rate limits of orgs."""

from __future__ import annotations

import contextlib

from litestar import Router, get, put

from ledger.rows import RowNotAuthentic
from server.access.limits.changes import require_within
from server.access.rights import May
from server.http.api.limits import LimitsBody, asked_rates, limits_body
from server.http.bodies import MAX_BYTES, json_body
from server.http.caller import HttpRequest, actor_of, org_of, permitted, services_of
from server.http.contract import WRITE_PROBLEMS, asks
from server.http.parameters import OrgSlug


@get("/v1/orgs/{org:str}/limits", operation_id="getLimits", opt=asks(May.LIST_KEYS))
async def get_limits(request: HttpRequest, org: OrgSlug) -> LimitsBody:
    """Get the rate limits of an org: its own, else those that the server gives to each org."""
    tenant, _ = org_of(request, org)
    known = services_of(request).limits.known
    return limits_body(known.known(tenant.id) or await known.load(tenant.id))


@put(
    "/v1/orgs/{org:str}/limits",
    operation_id="setLimits",
    opt=asks(
        May.ADMINISTER,
        writes=True,
        body=LimitsBody,
        example={"key": {"append_per_minute": 600}, "org": {"append_per_minute": 6_000}},
        problems=(400, 409, 423, 429, *WRITE_PROBLEMS),
    ),
)
async def set_limits(request: HttpRequest, org: OrgSlug) -> LimitsBody:
    """Set all rate limits of an org; an org's own key can't exceed those that the platform gave it."""
    tenant, principal = org_of(request, org)
    data: LimitsBody = await json_body(request)
    asked, services = asked_rates(data), services_of(request)
    if not principal.may(May.PLATFORM):
        allowed = [services.limits.known.defaults]
        with contextlib.suppress(RowNotAuthentic):  # this request repairs the row
            allowed.append(await services.limits.known.load(tenant.id))
        require_within(asked, *allowed)
    rates = await permitted(
        request,
        principal,
        lambda by: services.limit_changes.set(tenant, asked, actor_of(request), by=by),
    )
    return limits_body(rates)


router = Router(
    "/",
    route_handlers=[get_limits, set_limits],
    tags=["Orgs and keys"],
    request_max_body_size=MAX_BYTES,
)
