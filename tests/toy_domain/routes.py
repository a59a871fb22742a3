"""The routes of the toys."""

from __future__ import annotations

from typing import Annotated

from litestar import Router, get, post
from msgspec import Meta, Struct

from server.access.rights import May
from server.http.bodies import MAX_BYTES, json_body
from server.http.caller import HttpRequest, org_of, services_of
from server.http.contract import WRITE_PROBLEMS, asks
from server.http.parameters import OrgSlug
from tests.toy_domain.entry_kinds import WOUND
from tests.toy_domain.metrics import TURNS
from tests.toy_domain.rules import WIND, ToyBox


class WindToy(Struct, forbid_unknown_fields=True):
    """The number of turns to wind."""

    turns: Annotated[int, Meta(ge=1, examples=[1])]
    """How many turns the key is given; what a toy takes at most is a setting."""


class ToyBody(Struct):
    """The turns of an org's toys, and whether the watch task runs."""

    turns: Annotated[int, Meta(examples=[3])]
    """All turns that the toys of the org were given."""
    watched: bool
    """Whether a task of this process looks after them."""


@post(
    "/v1/orgs/{org:str}/toys",
    status_code=200,
    operation_id="windToy",
    opt=asks(
        WIND,
        writes=True,
        body=WindToy,
        example={"turns": 1},
        problems=(400, 409, 423, 429, *WRITE_PROBLEMS),
    ),
)
async def wind_toy(request: HttpRequest, org: OrgSlug) -> ToyBody:
    """Wind up the toys of an org."""
    tenant, principal = org_of(request, org)
    asked: WindToy = await json_body(request)
    services = services_of(request)
    box = services.part(ToyBox)
    turns = box.wind(tenant.id, asked.turns)
    what = {"event_type": WOUND.event_type, "actor": f"key:{principal.key_id}", "turns": turns}
    await services.guard.record(tenant, what)
    TURNS.inc(asked.turns)
    return ToyBody(turns, box.watched)


@get("/v1/orgs/{org:str}/toys", operation_id="getToys", opt=asks(May.READ))
async def get_toys(request: HttpRequest, org: OrgSlug) -> ToyBody:
    """Return the turns of an org's toys."""
    tenant, _ = org_of(request, org)
    box = services_of(request).part(ToyBox)
    return ToyBody(box.turns[tenant.id], box.watched)


router = Router(
    "/", route_handlers=[wind_toy, get_toys], tags=["Toys"], request_max_body_size=MAX_BYTES
)
