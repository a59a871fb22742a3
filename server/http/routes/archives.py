"""The archive of a trail: its state, and archiving on request."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final, Literal

from litestar import Response, Router, get, post
from litestar.params import QueryParameter
from msgspec import Struct

from ledger.core.org import OrgFacts
from ledger.entry import rfc3339
from ledger.storage import archive_accounts, trees
from server.access.auth import Principal
from server.access.directory import Conflict
from server.access.rights import May
from server.http.caller import HttpRequest, org_of, services_of
from server.http.contract import asks
from server.http.parameters import OrgSlug
from server.trails.appending import JSON

MAX_WAIT_S: Final = 60.0
POLL_INTERVAL_S: Final = 0.25


class ArchiveProblemBody(Struct):
    """Since when an org can't be archived, and why; the reason is for the platform's key only."""

    since: str
    reason: str | None


class ArchiveBody(Struct):
    """How far a trail is archived.

    ``size`` is that of the checkpoint up to which it is, ``signed`` that of its newest one.
    ``objects`` and ``bytes`` count what was written, newer partial tiles beside older ones.
    ``retain_days`` and ``legal_hold`` say how a bucket locks what is stored now.
    """

    target: Literal["folder", "bucket"]
    retain_days: int
    legal_hold: bool
    size: int
    signed: int
    objects: int
    bytes: int
    archived_at: str | None
    problem: ArchiveProblemBody | None


def _target(request: HttpRequest) -> str:
    url = services_of(request).settings.archive_target
    if url is None:
        raise Conflict(
            "this server archives nothing; its operator can set QUIRE_ARCHIVE_URL to a folder or "
            "a bucket"
        )
    return url


async def _status(
    request: HttpRequest, org: OrgFacts, principal: Principal, url: str
) -> ArchiveBody:
    services = services_of(request)
    tree = await trees.tree(services.database, org.id)
    archived = await archive_accounts.archived(services.database, url, org.id)
    objects, size = await archive_accounts.totals(services.database, url, org.id)
    problem = await archive_accounts.problem(services.database, url, org.id)
    may_see_reason = principal.may(May.PLATFORM)  # it names folders and buckets
    return ArchiveBody(
        target="bucket" if url.startswith("s3:") else "folder",
        retain_days=services.settings.archive_retain_days,
        legal_hold=services.settings.archive_legal_hold,
        size=archived.size if archived else 0,
        signed=tree.size if tree else 0,
        objects=objects,
        bytes=size,
        archived_at=rfc3339(archived.archived_at) if archived else None,
        problem=ArchiveProblemBody(rfc3339(problem[1]), problem[0] if may_see_reason else None)
        if problem
        else None,
    )


@get("/v1/orgs/{org:str}/archive", operation_id="getArchive", opt=asks(May.VERIFY, problems=(409,)))
async def archive_status(request: HttpRequest, org: OrgSlug) -> ArchiveBody:
    """Show how far the trail is archived, and what prevents it."""
    tenant, principal = org_of(request, org)
    return await _status(request, tenant, principal, _target(request))


@post(
    "/v1/orgs/{org:str}/archive",
    status_code=202,
    operation_id="archiveTrail",
    opt=asks(
        May.ADMINISTER,
        writes=True,
        problems=(400, 409),
        answers={200: {JSON: ArchiveBody}, 202: {JSON: ArchiveBody}},
    ),
)
async def archive_now(
    request: HttpRequest,
    org: OrgSlug,
    wait: Annotated[
        float, QueryParameter(ge=0, le=MAX_WAIT_S, description="Seconds to wait for the end")
    ] = 30.0,
) -> Response[ArchiveBody]:
    """Archive the trail up to its newest checkpoint now."""
    tenant, principal = org_of(request, org)
    url = _target(request)
    database = services_of(request).database
    before = await _status(request, tenant, principal, url)
    await archive_accounts.ask(database, tenant.id)
    deadline = asyncio.get_running_loop().time() + wait
    status = before
    while status.size < before.signed and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(POLL_INTERVAL_S)
        status = await _status(request, tenant, principal, url)
    return Response(status, status_code=200 if status.size >= before.signed else 202)


router = Router("/", route_handlers=[archive_status, archive_now], tags=["Archive"])
