"""``?wait=checkpoint``: answers an append with the proofs of its entries.

The entries are durable before a request waits here. A failure from then on is answered as an
append without proof, never as a failed append.
"""

from __future__ import annotations

import asyncio
from typing import Final, NamedTuple

import msgspec
import structlog

from ledger.core.lasting import GRACE_S, SILENT_S, Lasting, LastingByKey
from ledger.core.org import OrgFacts
from ledger.core.sequencer import Appended
from ledger.entry import RecordId
from ledger.errors import DatabaseAway, QuireError
from ledger.pieces import piece
from ledger.storage import trees
from ledger.storage.trees import StoredCheckpoint
from server.http.api.logs import signed_head
from server.http.api.proofs import proof_body
from server.http.caller import HttpRequest, has_current_key, services_of

log = structlog.get_logger("quire")

_unproven = LastingByKey(
    "entries are written but not proven", "entries are proven again", silent_s=SILENT_S
)
_away = Lasting(
    "proofs of written entries wait for the database",
    "entries are proven again",
    grace_s=GRACE_S,
    silent_s=SILENT_S,
)

WAIT_S: Final = 10.0
"""Longest wait of an append for its checkpoint."""
LOOK_S: Final = 0.5
"""Pause between two looks whether the caller's key is still valid."""
MAX_PROVED: Final = 100
"""Up to this many entries of one request get a proof each; more get only the checkpoint."""


PROVED_AT_ONCE: Final = 25
"""Proofs that are written without a pause: about a millisecond."""


class SignedInclusion(NamedTuple):
    """JSON of the checkpoint that includes all entries of a request, and of each entry's proof.

    "null" if it was not signed in time; no proofs if there are too many entries.
    """

    checkpoint: str
    proofs: list[str]


async def signed(request: HttpRequest, org: OrgFacts, appended: Appended) -> SignedInclusion:
    """Wait for the checkpoint of these entries, and prove that it includes them."""
    count = len(appended.entries)
    try:
        found = await _prove(request, org, appended)
    except DatabaseAway as error:
        _away.failed(log.warning, str(error), early=log.info, org=org.slug)
        found = None
    except QuireError as error:
        _unproven.failed(type(error), log.warning, str(error), org=org.slug)
        found = None
    if found is None:
        return SignedInclusion("null", ["null"] * count if count <= MAX_PROVED else [])
    return found


async def _prove(request: HttpRequest, org: OrgFacts, appended: Appended) -> SignedInclusion | None:
    services = services_of(request)
    receipts = list(appended.receipts())
    newest = max(receipt.seq for receipt in receipts)
    if not await _covered(request, org.id, newest):
        return None
    checkpoint = await trees.newest_checkpoint(services.database, org.id)
    if checkpoint is None or checkpoint.size <= newest:
        return None
    proofs = []
    if len(receipts) <= MAX_PROVED:
        hashes = {receipt.seq: receipt.entry_hash for receipt in receipts}
        found = await services.prover.prove(org.id, hashes, checkpoint)
        proven = {proof.seq: proof for proof in found}
        for number, receipt in enumerate(receipts):
            if number % PROVED_AT_ONCE == 0:
                await piece(org.id)
            place = RecordId(org.id, receipt.anchored_us, receipt.seq)
            proofs.append(_json(proof_body(place, proven[receipt.seq])))
    return SignedInclusion(_head(checkpoint), proofs)


async def _covered(request: HttpRequest, org_id: int, seq: int) -> bool:
    """Return whether a checkpoint covers an entry in time, while the caller's key is valid."""
    covers = services_of(request).growth.covers(org_id, seq, WAIT_S)
    covered = asyncio.create_task(covers)
    try:
        while await has_current_key(request):
            if (await asyncio.wait({covered}, timeout=LOOK_S))[0]:
                return covered.result()
        return False
    finally:
        covered.cancel()


def _head(checkpoint: StoredCheckpoint) -> str:
    return _json(signed_head(checkpoint, checkpoint.note))


def _json(body: object) -> str:
    return msgspec.json.encode(body).decode()
