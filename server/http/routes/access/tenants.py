"""Orgs, who asks, and security events."""

from __future__ import annotations

from litestar import Router, get, patch, post

from ledger.blocks.block import SYSTEM_ORG
from ledger.entry import format_time
from ledger.storage import accepted_doubts
from server.access.administration import Conflict
from server.access.directory import SLUG, no_such_org
from server.access.principal import NEVER_US
from server.access.rights import May
from server.http.api.keys import WhoAmI
from server.http.api.orgs import (
    SLUG_FORM,
    ChangeOrg,
    CreateOrg,
    OrgBody,
    OrgList,
    ThawOrg,
    org_body,
)
from server.http.bodies import MAX_BYTES, json_body
from server.http.caller import (
    HttpRequest,
    actor_of,
    clean,
    org_of,
    permitted,
    principal_of,
    services_of,
)
from server.http.contract import WRITE_PROBLEMS, any_key, asks
from server.http.parameters import Limit, OrgSlug, SlugCursor
from server.http.problems import BadRequest

PUBLIC_PLAIN = (
    "this org keeps plain identities: everybody can now read the actors and subjects of its "
    "entries, past ones included, and can guess a payload and check the guess against its digest"
)
PUBLIC_CACHED = (
    "a public log can't be taken back: readers keep what they read, and shared caches may serve it "
    "for an hour after the log was made private again"
)


async def _show(request: HttpRequest, org_id: int, slug: str) -> OrgBody:
    record = await services_of(request).directory.record(org_id)
    if record is None:
        raise no_such_org(slug)
    return org_body(record)


@get("/v1/whoami", operation_id="whoAmI", opt=any_key())
async def who_am_i(request: HttpRequest) -> WhoAmI:
    """Get the role of the presented API key, the org that it belongs to, and when it expires."""
    principal = principal_of(request)
    org = None
    if principal.org_id is not None:
        org = await services_of(request).directory.by_id(principal.org_id)
    ends = None if principal.expires_us == NEVER_US else format_time(principal.expires_us)
    return WhoAmI(principal.key_id, principal.role, None if org is None else org.slug, ends)


@post(
    "/v1/orgs",
    operation_id="createOrg",
    opt=asks(
        May.PLATFORM,
        writes=True,
        body=CreateOrg,
        example={"slug": "acme", "name": "Acme Ltd", "privacy": "sealed"},
        problems=(400, 409, *WRITE_PROBLEMS),
    ),
)
async def create_org(request: HttpRequest) -> OrgBody:
    """Create an org with an empty trail (platform key)."""
    data: CreateOrg = await json_body(request)
    # The "$" of the pattern also matches before a last line feed.
    if SLUG.fullmatch(data.slug) is None:
        raise BadRequest(f"slug must be {SLUG_FORM}")
    name = clean("name", data.name or data.slug)
    if data.slug == SYSTEM_ORG:
        raise Conflict(f'the slug "{data.slug}" is reserved for the server; choose another')
    administration = services_of(request).administration
    org = await permitted(
        request,
        principal_of(request),
        lambda by: administration.create_org(
            data.slug, name, data.privacy, actor_of(request), by=by
        ),
    )
    return org_body(org)


@get("/v1/orgs", operation_id="listOrgs", opt=asks(May.PLATFORM, problems=(400,)))
async def list_orgs(request: HttpRequest, cursor: SlugCursor = None, limit: Limit = 100) -> OrgList:
    """List orgs in the order of their slugs (platform key)."""
    directory = services_of(request).directory
    records = await directory.listed(clean("cursor", cursor or ""), limit)
    following = records[-1][0].slug if len(records) == limit else None
    return OrgList([org_body(*found) for found in records], following)


@get("/v1/orgs/{org:str}", operation_id="getOrg", opt=asks(May.READ))
async def get_org(request: HttpRequest, org: OrgSlug) -> OrgBody:
    """Get one org, its head and whether it is frozen."""
    tenant, _ = org_of(request, org)
    return await _show(request, tenant.id, org)


@patch(
    "/v1/orgs/{org:str}",
    operation_id="changeOrg",
    opt=asks(
        May.ADMINISTER,
        writes=True,
        body=ChangeOrg,
        example={"name": "Acme"},
        problems=(400, *WRITE_PROBLEMS),
    ),
)
async def change_org(request: HttpRequest, org: OrgSlug) -> OrgBody:
    """Change an org's name, its public log, the age of its keys, or (platform key) its quota."""
    tenant, principal = org_of(request, org)
    data: ChangeOrg = await json_body(request)
    quota = data.entries_a_day, data.bytes_a_day
    if (data.name, data.log_public, data.max_key_age_days, *quota) == (None,) * 5:
        raise BadRequest(
            "give name, log_public, max_key_age_days, entries_a_day or bytes_a_day: nothing else of an "
            "org can be changed"
        )
    if quota != (None, None):
        principal.require(May.PLATFORM)
    services = services_of(request)
    name = None if data.name is None else clean("name", data.name)
    record = await permitted(
        request,
        principal,
        lambda by: services.administration.change_org(
            tenant.id,
            name=name,
            log_public=data.log_public,
            quota=quota,
            max_key_age_days=data.max_key_age_days,
            actor=actor_of(request),
            by=by,
        ),
    )
    if record is None:
        raise no_such_org(org)
    services.directory.forget(org)
    shown = org_body(record)
    if data.log_public:
        shown.warnings = [PUBLIC_CACHED] if tenant.seals else [PUBLIC_PLAIN, PUBLIC_CACHED]
    return shown


@post(
    "/v1/orgs/{org:str}/thaw",
    status_code=200,
    operation_id="thawOrg",
    opt=asks(
        May.ADMINISTER,
        writes=True,
        body=ThawOrg,
        example={"reason": "restored from the backup of 3 May; verified whole"},
        problems=(400, 409, 423, 429, *WRITE_PROBLEMS),
    ),
)
async def thaw_org(request: HttpRequest, org: OrgSlug) -> OrgBody:
    """Let a frozen or unsigned org accept entries again; its trail records the reason."""
    tenant, principal = org_of(request, org)
    data: ThawOrg = await json_body(request)
    services = services_of(request)
    record = await services.directory.record(tenant.id)
    frozen = record is None or record.frozen_at is not None or not record.has_head
    if not frozen:  # its row may have been changed since another process froze it
        await services.register.catch_up()
        frozen = services.register.freeze_of(tenant.id) is not None
    if not frozen and not await accepted_doubts.stopped(services.database, tenant.id):
        raise Conflict(f'org "{org}" is not frozen')
    reason = clean("reason", data.reason)
    await permitted(
        request, principal, lambda by: services.guard.thaw(tenant, reason, by.key_id, by)
    )
    return await _show(request, tenant.id, org)


router = Router(
    "/",
    route_handlers=[
        who_am_i,
        create_org,
        list_orgs,
        get_org,
        change_org,
        thaw_org,
    ],
    tags=["Orgs and keys"],
    request_max_body_size=MAX_BYTES,
)
