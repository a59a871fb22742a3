"""Proofs over HTTP: entry in a checkpoint, checkpoint in an anchor, consistency of two sizes."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from litestar import Response, Router, get
from litestar.params import QueryParameter

from ledger.core import proving
from ledger.core.proving import NoSuchCheckpoint, Proven
from ledger.entry import RecordId, parse_record_id
from ledger.errors import FormatError
from ledger.proof import MAX_EXTRA_BYTES, TlogProof
from ledger.shapes import NOTE_EXAMPLE
from ledger.storage import trees
from ledger.storage.trees import ANCHOR_LOG, StoredCheckpoint
from server.access.directory import NotFound
from server.access.rights import May
from server.http.api.proofs import ConsistencyBody, ProofBody, anchor_proof, proof_body
from server.http.caller import HttpRequest, org_of, services_of
from server.http.contract import asks, needs_no_key, text
from server.http.parameters import OrgSlug, RecordName
from server.http.problems import BadRequest
from server.http.routes.checkpoints import MAX_SIZE
from server.trails.appending import JSON
from server.trails.services import Services

TLOG_PROOF: Final = "text/x-tlog-proof"
A_TLOG_PROOF: Final = text(
    "The proof as a C2SP tlog-proof file; its extra data is the JSON of `anchoring`",
    f"c2sp.org/tlog-proof@v1\nindex 41\npMHwwKUs8rpuj08vHw1Kj9mjprjgtcfZE1eSRorOC98=\n\n{NOTE_EXAMPLE}",
)

Size = Annotated[
    int | None,
    QueryParameter(
        ge=1,
        le=MAX_SIZE,
        description="Size of the checkpoint to prove it in; none: the newest",
        schema_extra={"examples": [42]},
    ),
]
Anchored = Annotated[
    bool,
    QueryParameter(
        description="Prove it in the newest checkpoint that is anchored",
        schema_extra={"examples": [True]},
    ),
]
From = Annotated[
    int,
    QueryParameter(
        name="from",
        ge=0,
        le=MAX_SIZE,
        description="The smaller size of the tree",
        schema_extra={"examples": [10]},
    ),
]
To = Annotated[
    int | None,
    QueryParameter(
        name="to",
        ge=0,
        le=MAX_SIZE,
        description="The larger size; none: the newest checkpoint's",
        schema_extra={"minimum": 0, "examples": [42]},
    ),
]


def tlog_proof(proven: Proven) -> bytes:
    """Return a proof as a C2SP tlog-proof file; its extra data is the anchoring, if any, as JSON.

    If the extra data is too large for the file, the timestamps are left out, then all of it.
    """
    found, extra = proven.anchoring, None
    if found is not None:
        choices = (
            msgspec.json.encode(anchor_proof(one)) for one in (found, found._replace(tokens=[]))
        )
        extra = next((choice for choice in choices if len(choice) <= MAX_EXTRA_BYTES), None)
    return TlogProof(proven.seq, tuple(proven.hashes), proven.checkpoint.note, extra).format()


@get(
    "/v1/orgs/{org:str}/entries/{record:str}/proof",
    operation_id="getProof",
    opt=asks(
        May.READ,
        problems=(409, 423),
        answers={200: {JSON: ProofBody, TLOG_PROOF: A_TLOG_PROOF}},
        meanings={200: "The entry's proof"},
    ),
)
async def get_proof(
    request: HttpRequest,
    org: OrgSlug,
    record: RecordName,
    size: Size = None,
    anchored: Anchored = False,
) -> Response[bytes]:
    """Prove that an entry is in a checkpoint, and the checkpoint in an anchor."""
    tenant, _ = org_of(request, org)
    if anchored and size is not None:
        raise BadRequest("give size or anchored, not both")
    services = services_of(request)
    database = services.database
    place, leaf_hash, newest = await _entry(services, tenant.id, record)
    try:
        checkpoint = await proving.checkpoint_for(
            database, tenant.id, place.seq, newest, size=size, anchored=anchored
        )
    except NoSuchCheckpoint as error:
        raise NotFound(str(error)) from None
    (proven,) = await services.prover.prove(
        tenant.id, {place.seq: leaf_hash}, checkpoint, anchored=anchored
    )
    if _wants_tlog_proof(request):
        return Response(tlog_proof(proven), media_type=TLOG_PROOF, headers={"Vary": "Accept"})
    body = msgspec.json.encode(proof_body(place, proven))
    return Response(body, media_type=JSON, headers={"Vary": "Accept"})


async def _entry(
    services: Services, org_id: int, record: str
) -> tuple[RecordId, bytes, StoredCheckpoint | None]:
    missing = NotFound("this org has no entry with this record id")
    try:
        place = parse_record_id(record)
    except FormatError:
        raise missing from None
    found = await services.trail.hash_and_checkpoint(place) if place.org_id == org_id else None
    if found is None:
        raise missing
    return place, *found


def _wants_tlog_proof(request: HttpRequest) -> bool:
    accepted = ",".join(request.headers.getall("accept", [])).lower()
    return any(choice.partition(";")[0].strip() == TLOG_PROOF for choice in accepted.split(",", 32))


@get(
    "/v1/orgs/{org:str}/consistency",
    operation_id="getConsistency",
    opt=asks(May.READ, problems=(409,)),
)
async def get_consistency(
    request: HttpRequest, org: OrgSlug, first: From = 0, second: To = None
) -> ConsistencyBody:
    """Prove that an org's tree of one size extends its tree of another size."""
    tenant, _ = org_of(request, org)
    return await _consistency(request, tenant.id, first, second)


@get(
    "/v1/log/consistency",
    operation_id="getAnchorConsistency",
    opt=needs_no_key(problems=(409, 503)),
)
async def get_anchor_consistency(
    request: HttpRequest, first: From = 0, second: To = None
) -> ConsistencyBody:
    """Prove that the anchor log of one size extends that of another size."""
    return await _consistency(request, ANCHOR_LOG, first, second)


async def _consistency(
    request: HttpRequest, org_id: int, first: int, second: int | None
) -> ConsistencyBody:
    database = services_of(request).database
    if second is None:
        tree = await trees.tree(database, org_id)
        second = 0 if tree is None else tree.size
    if first > second:
        raise BadRequest(f"from must not be larger than to, which is {second}")
    hashes = await proving.consistency(database, org_id, first, second)
    return ConsistencyBody(first, second, [digest.hex() for digest in hashes])


router = Router(
    "/", route_handlers=[get_proof, get_consistency, get_anchor_consistency], tags=["Logs"]
)
