"""The archive of a trail: its state, and archiving on request."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final, Literal

from litestar import Response, Router, get, post
from litestar.params import QueryParameter
from msgspec import Meta, Struct

from ledger.core.org import OrgFacts
from ledger.entry import rfc3339
from ledger.shapes import TIME_EXAMPLE, TimeText, TreeSize
from ledger.storage import archive_accounts, trees
from server.access.administration import Conflict
from server.access.principal import Principal
from server.access.rights import May
from server.http.caller import HttpRequest, interruptible, org_of, services_of
from server.http.contract import asks
from server.http.parameters import OrgSlug
from server.trails.appending import JSON

MAX_WAIT_S: Final = 60.0
POLL_INTERVAL_S: Final = 0.25


class ArchiveProblemBody(Struct):
    """Since when an org can't be archived, and why; the reason is for the platform's key only."""

    since: TimeText
    """When archiving first failed, after it last succeeded."""
    reason: Annotated[str, Meta(examples=["the bucket refused the credentials"])] | None
    """Why archiving fails; null for every key but the platform's."""


class ArchiveBody(Struct):
    """How far a trail is archived."""

    target: Literal["folder", "bucket"]
    """Where the archive is: in a folder, or in a bucket of an object store."""
    retain_days: Annotated[int, Meta(examples=[3650], extra_json_schema={"minimum": 0})]
    """For how many days a bucket locks an object that is stored now; 0: it locks none."""
    legal_hold: Annotated[bool, Meta(examples=[False])]
    """Whether a bucket puts a legal hold on an object that is stored now."""
    size: TreeSize
    """The size of the newest checkpoint that is archived with all its entries; 0: none is."""
    signed: TreeSize
    """The size of the newest checkpoint that is signed; 0: none is."""
    objects: Annotated[int, Meta(examples=[17], extra_json_schema={"minimum": 0})]
    """How many objects were written, newer partial tiles beside older ones."""
    bytes: Annotated[int, Meta(examples=[48213], extra_json_schema={"minimum": 0})]
    """How many bytes these objects have."""
    archived_at: TimeText | None
    """When the newest archived checkpoint was archived; null: none was."""
    problem: Annotated[
        ArchiveProblemBody | None, Meta(examples=[None, {"since": TIME_EXAMPLE, "reason": None}])
    ]
    """Why the trail can't be archived now; null: nothing is wrong."""


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
    archived = await services.archived(url).upto(org.id)
    problem = await archive_accounts.problem(services.database, url, org.id)
    may_see_reason = principal.may(May.PLATFORM)  # it names folders and buckets
    return ArchiveBody(
        target="bucket" if url.startswith("s3:") else "folder",
        retain_days=services.settings.archive_retain_days,
        legal_hold=services.settings.archive_legal_hold,
        size=archived.size if archived else 0,
        signed=tree.size if tree else 0,
        objects=archived.objects if archived else 0,
        bytes=archived.bytes if archived else 0,
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
        meanings={
            200: "The trail is archived up to the checkpoint that was the newest at the request",
            202: "The trail is not archived that far yet; the archiver goes on",
        },
    ),
)
async def archive_now(
    request: HttpRequest,
    org: OrgSlug,
    wait: Annotated[
        float,
        QueryParameter(
            ge=0,
            le=MAX_WAIT_S,
            description="Seconds to wait for the end",
            schema_extra={"examples": [10]},
        ),
    ] = 30.0,
) -> Response[ArchiveBody]:
    """Archive the trail up to its newest checkpoint now."""
    tenant, principal = org_of(request, org)
    url = _target(request)
    database = services_of(request).database
    before = await _status(request, tenant, principal, url)
    await archive_accounts.ask(database, tenant.id)
    interruptible(request)
    deadline = asyncio.get_running_loop().time() + wait
    status = before
    while status.size < before.signed and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(POLL_INTERVAL_S)
        status = await _status(request, tenant, principal, url)
    return Response(status, status_code=200 if status.size >= before.signed else 202)


router = Router("/", route_handlers=[archive_status, archive_now], tags=["Archive"])
