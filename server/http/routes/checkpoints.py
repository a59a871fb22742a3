"""The signed history: every checkpoint of an org, every anchor, the log keys."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Annotated, Any, Final

import msgspec
from litestar import Response, Router, get
from litestar.params import PathParameter, QueryParameter
from msgspec import Struct

from ledger.core.proving import cosigned
from ledger.entry import rfc3339
from ledger.log_keys import LogKeyHistory
from ledger.storage import history, log_keys, trees
from ledger.storage.history import ListedCheckpoint
from ledger.storage.trees import ANCHOR_LOG, StoredCheckpoint, StoredToken
from server.access.directory import NotFound
from server.access.rights import May
from server.http.caller import HttpRequest, org_of, refuse_unknown, services_of
from server.http.contract import asks, needs_no_key
from server.http.parameters import Limit, OrgSlug
from server.trails.appending import JSON

MAX_SIZE: Final = 2**40
"""Leaves of the largest possible tree."""
_PAGED: Final = frozenset({"limit", "cursor"})
_SIZE = re.compile(r"0|[1-9][0-9]{0,12}")

TreeSize = Annotated[
    str, PathParameter(description="Size of a signed tree: how many entries it covers")
]
Before = Annotated[
    int,
    QueryParameter(
        ge=0, le=MAX_SIZE + 1, description="next_cursor of the page before; none: the newest"
    ),
]


class CheckpointBody(Struct):
    """A signed tree head: ``note`` is the C2SP signed note, ``root`` is hex.

    ``anchor_index`` is the first leaf of the anchor log that commits to the note.
    """

    size: int
    root: str
    note: str
    signed_at: str
    anchor_index: int | None


class CheckpointPageBody(Struct):
    """Checkpoints, newest first; follow ``next_cursor`` until it is null."""

    checkpoints: list[CheckpointBody]
    next_cursor: int | None


class AnchorBody(Struct):
    """A signed head of the anchor log."""

    size: int
    root: str
    note: str
    signed_at: str


class AnchorPage(Struct):
    """Anchors, newest first; follow ``next_cursor`` until it is null."""

    anchors: list[AnchorBody]
    next_cursor: int | None


class TokenBody(Struct):
    """An RFC 3161 timestamp over an anchor's note as the log signed it."""

    token: bytes
    gen_time: str
    added_at: str


class AnchorDetail(Struct):
    """An anchor with what others added: ``note`` carries cosignatures, ``signed`` does not."""

    size: int
    root: str
    note: str
    signed: str
    signed_at: str
    timestamps: list[TokenBody]


class KeyStatement(msgspec.Struct):
    """What one key of the log is, signed by the key before it and by itself."""

    statement: dict[str, Any]
    signatures: list[dict[str, Any]]


class KeyHistory(msgspec.Struct):
    """The keys that sign checkpoints and anchors, oldest first."""

    origin: str
    keys: list[KeyStatement]


def size_of(text: str) -> int:
    """Return the tree size in a path. Raises NotFound."""
    if not _SIZE.fullmatch(text) or int(text) > MAX_SIZE:
        raise NotFound("the tree size in the path must be a decimal number")
    return int(text)


def checkpoint_body(found: StoredCheckpoint, anchor_index: int | None) -> CheckpointBody:
    """Return a checkpoint as the API shows it."""
    return CheckpointBody(
        found.size, found.root.hex(), text(found.note), rfc3339(found.signed_at), anchor_index
    )


def token_bodies(tokens: list[StoredToken]) -> list[TokenBody]:
    """Return timestamp tokens as the API shows them."""
    return [
        TokenBody(found.token, rfc3339(found.gen_time), rfc3339(found.added_at)) for found in tokens
    ]


def text(note: bytes) -> str:
    """Return a note as text; bytes damaged in storage are shown as replacement characters."""
    return note.decode("utf-8", "replace")


def _page(found: list[ListedCheckpoint], limit: int) -> int | None:
    return found[-1].size if len(found) == limit and found[-1].size else None


@get("/v1/orgs/{org:str}/checkpoints", operation_id="listCheckpoints", opt=asks(May.READ))
async def list_checkpoints(
    request: HttpRequest, org: OrgSlug, cursor: Before = MAX_SIZE + 1, limit: Limit = 100
) -> CheckpointPageBody:
    """List all checkpoints of an org's trail, newest first."""
    tenant, _ = org_of(request, org)
    refuse_unknown(request, _PAGED)
    found = await history.listed(services_of(request).database, tenant.id, cursor, limit)
    shown = [checkpoint_body(StoredCheckpoint(*row[:4]), row.anchor_index) for row in found]
    return CheckpointPageBody(shown, _page(found, limit))


@get("/v1/orgs/{org:str}/checkpoints/{size:str}", operation_id="getCheckpoint", opt=asks(May.READ))
async def get_checkpoint(request: HttpRequest, org: OrgSlug, size: TreeSize) -> CheckpointBody:
    """Get the checkpoint of one size."""
    tenant, _ = org_of(request, org)
    tree_size = size_of(size)
    found = await history.listed(services_of(request).database, tenant.id, tree_size + 1, 1)
    if not found or found[0].size != tree_size:
        raise NotFound(f"no checkpoint of size {tree_size} was signed")
    return checkpoint_body(StoredCheckpoint(*found[0][:4]), found[0].anchor_index)


@get("/v1/log/anchors", operation_id="listAnchors", opt=needs_no_key(problems=(503,)))
async def list_anchors(
    request: HttpRequest, cursor: Before = MAX_SIZE + 1, limit: Limit = 100
) -> AnchorPage:
    """List all anchors, newest first."""
    refuse_unknown(request, _PAGED)
    found = await history.listed(services_of(request).database, ANCHOR_LOG, cursor, limit)
    shown = [
        AnchorBody(row.size, row.root.hex(), text(row.note), rfc3339(row.signed_at))
        for row in found
    ]
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
    statements = await log_keys.statements(services_of(request).database)
    if not statements:
        raise NotFound("this server has not signed a log yet")
    return Response(_key_document(tuple(statements)), media_type=JSON)


@lru_cache(maxsize=1)
def _key_document(statements: tuple[bytes, ...]) -> bytes:
    """Return the verified history; cached, as only a rotation changes it. Raises KeyHistoryError."""
    return LogKeyHistory.of(statements).document()


router = Router(
    "/",
    route_handlers=[list_checkpoints, get_checkpoint, list_anchors, get_anchor, get_log_keys],
    tags=["Logs"],
)
