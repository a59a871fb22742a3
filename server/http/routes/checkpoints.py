"""The signed history: every checkpoint of an org, every anchor, the log keys."""

from __future__ import annotations

import re
from typing import Annotated, Final

from litestar import Response, Router, get
from litestar.params import PathParameter, QueryParameter

from ledger.core.proving import cosigned
from ledger.entry import rfc3339
from ledger.storage import history as signed
from ledger.storage import trees
from ledger.storage.history import ListedCheckpoint
from ledger.storage.trees import ANCHOR_LOG, StoredCheckpoint
from server.access.directory import NotFound
from server.access.rights import May
from server.http.api.logs import (
    AnchorDetail,
    AnchorPage,
    CheckpointBody,
    CheckpointPageBody,
    KeyHistory,
    checkpoint_body,
    signed_head,
    text,
    token_bodies,
)
from server.http.caller import HttpRequest, org_of, services_of
from server.http.contract import asks, needs_no_key
from server.http.parameters import Limit, OrgSlug
from server.trails.appending import JSON

MAX_SIZE: Final = 2**40
"""Leaves of the largest possible tree."""
_SIZE = re.compile(r"0|[1-9][0-9]{0,12}")

TreeSize = Annotated[
    str,
    PathParameter(
        description="Size of a signed tree: how many leaves it has, in decimal digits",
        schema_extra={"examples": ["42"]},
    ),
]
Before = Annotated[
    int,
    QueryParameter(
        ge=0,
        le=MAX_SIZE + 1,
        description="next_cursor of the page before; none: the newest",
        schema_extra={"examples": [42]},
    ),
]


def size_of(text: str) -> int:
    """Return the tree size in a path. Raises NotFound."""
    if not _SIZE.fullmatch(text) or int(text) > MAX_SIZE:
        raise NotFound("the tree size in the path must be a decimal number")
    return int(text)


def _page(found: list[ListedCheckpoint], limit: int) -> int | None:
    return found[-1].size if len(found) == limit and found[-1].size else None


@get("/v1/orgs/{org:str}/checkpoints", operation_id="listCheckpoints", opt=asks(May.READ))
async def list_checkpoints(
    request: HttpRequest, org: OrgSlug, cursor: Before = MAX_SIZE + 1, limit: Limit = 100
) -> CheckpointPageBody:
    """List all checkpoints of an org's trail, newest first."""
    tenant, _ = org_of(request, org)
    found = await signed.listed(services_of(request).database, tenant.id, cursor, limit)
    shown = [checkpoint_body(StoredCheckpoint(*row[:4]), row.anchor_index) for row in found]
    return CheckpointPageBody(shown, _page(found, limit))


@get("/v1/orgs/{org:str}/checkpoints/{size:str}", operation_id="getCheckpoint", opt=asks(May.READ))
async def get_checkpoint(request: HttpRequest, org: OrgSlug, size: TreeSize) -> CheckpointBody:
    """Get the checkpoint of one size."""
    tenant, _ = org_of(request, org)
    tree_size = size_of(size)
    found = await signed.listed(services_of(request).database, tenant.id, tree_size + 1, 1)
    if not found or found[0].size != tree_size:
        raise NotFound(f"no checkpoint of size {tree_size} was signed")
    return checkpoint_body(StoredCheckpoint(*found[0][:4]), found[0].anchor_index)


@get("/v1/log/anchors", operation_id="listAnchors", opt=needs_no_key(problems=(503,)))
async def list_anchors(
    request: HttpRequest, cursor: Before = MAX_SIZE + 1, limit: Limit = 100
) -> AnchorPage:
    """List all anchors, newest first."""
    found = await signed.listed(services_of(request).database, ANCHOR_LOG, cursor, limit)
    shown = [signed_head(StoredCheckpoint(*one[:4]), one.note) for one in found]
    return AnchorPage(shown, _page(found, limit))


@get("/v1/log/anchors/{size:str}", operation_id="getAnchor", opt=needs_no_key(problems=(503,)))
async def get_anchor(request: HttpRequest, size: TreeSize) -> AnchorDetail:
    """Get one anchor with its cosignatures and timestamps."""
    database = services_of(request).database
    tree_size = size_of(size)
    found = await trees.checkpoint_at(database, ANCHOR_LOG, tree_size)
    if found is None:
        raise NotFound(f"no anchor of size {tree_size} was signed")
    return AnchorDetail(
        found.size,
        found.root.hex(),
        text(await cosigned(database, found)),
        text(found.note),
        rfc3339(found.signed_at),
        token_bodies(await trees.tokens(database, found.size)),
    )


@get(
    "/v1/log/keys",
    operation_id="getLogKeys",
    opt=needs_no_key(problems=(404, 503), answers={200: {JSON: KeyHistory}}),
)
async def get_log_keys(request: HttpRequest) -> Response[bytes]:
    """Get the signed history of the keys that sign checkpoints and anchors."""
    history = await services_of(request).published_keys.history()
    if history is None:
        raise NotFound("this server has not signed a log yet")
    return Response(history.document(), media_type=JSON)


router = Router(
    "/",
    route_handlers=[list_checkpoints, get_checkpoint, list_anchors, get_anchor, get_log_keys],
    tags=["Logs"],
)
