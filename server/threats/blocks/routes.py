"""Blocks of addresses over HTTP, for the platform alone: they concern all orgs."""

from __future__ import annotations

from typing import Annotated, Final

from litestar import Router, delete, get, post
from litestar.params import PathParameter, QueryParameter

from server.access.directory import NotFound
from server.access.rights import right
from server.addresses import ClientAddress
from server.http.bodies import MAX_BYTES, json_body
from server.http.caller import HttpRequest, actor_of, clean, permitted, principal_of, services_of
from server.http.contract import WRITE_PROBLEMS, asks
from server.http.parameters import Limit
from server.http.problems import BadRequest
from server.threats.blocks.bodies import BlockAddress, BlockBody, BlockListBody, block_body
from server.threats.blocks.book import address_book
from server.threats.blocks.parts import block_changes, block_list
from server.threats.blocks.rules import address_of_text, require_blockable

BLOCK: Final = right("block addresses")
BlockId = Annotated[
    str,
    PathParameter(
        description="Id of a block: 16 lower-case hex digits",
        schema_extra={"examples": ["5f0c7e12a94b38d6"]},
    ),
]
BlockCursor = Annotated[
    str,
    QueryParameter(
        max_length=64,
        description="next_cursor of the page before; none: the first page",
        schema_extra={"examples": ["5f0c7e12a94b38d6"]},
    ),
]


@get("/v1/blocks", operation_id="listBlocks", opt=asks(BLOCK))
async def list_blocks(
    request: HttpRequest, cursor: BlockCursor = "", limit: Limit = 100
) -> BlockListBody:
    """List the addresses whose requests are refused now (platform key)."""
    listed = await services_of(request).part(block_list).page(cursor, limit)
    following = listed[-1].block.id if len(listed) == limit else None
    return BlockListBody([block_body(each) for each in listed], following)


@post(
    "/v1/blocks",
    operation_id="blockAddress",
    opt=asks(
        BLOCK,
        writes=True,
        body=BlockAddress,
        example={"address": "192.0.2.7", "reason": "tries keys", "hours": 24},
        problems=(400, 409, 423, 429, *WRITE_PROBLEMS),
        meanings={201: "The block, which is extended where the address was blocked already"},
    ),
)
async def block_address(request: HttpRequest) -> BlockBody:
    """Refuse all requests from an address, or an IPv6 /64, for some hours (platform key)."""
    data: BlockAddress = await json_body(request)
    services, reason = services_of(request), clean("reason", data.reason)
    address = _address(data.address)
    require_blockable(address, services.blocked.exempt)
    book = services.part(address_book)
    book.note(address)
    await book.store()
    state = await permitted(
        request,
        principal_of(request),
        lambda by: services.part(block_changes).block(
            address, data.hours, reason, actor_of(request), by=by
        ),
    )
    services.live.changed()
    return block_body(await services.part(block_list).shown(state))


def _address(text: str) -> ClientAddress:
    try:
        return address_of_text(text)
    except ValueError as error:
        raise BadRequest(f"address {error}") from None


@delete(
    "/v1/blocks/{block_id:str}",
    operation_id="unblockAddress",
    opt=asks(
        BLOCK,
        writes=True,
        problems=(400, 409, 423, 429),
        meanings={204: "Requests from the address are answered again"},
    ),
)
async def unblock_address(request: HttpRequest, block_id: BlockId) -> None:
    """Lift a block before its end, on every server at once (platform key)."""
    changes = services_of(request).part(block_changes)
    lifted = await permitted(
        request,
        principal_of(request),
        lambda by: changes.lift(block_id, actor_of(request), by=by),
    )
    if lifted is None:
        raise NotFound("no block that is in force has this id")


router = Router(
    "/",
    route_handlers=[list_blocks, block_address, unblock_address],
    tags=["Blocks"],
    request_max_body_size=MAX_BYTES,
)
