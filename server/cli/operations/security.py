"""`quire security`: blocks of addresses, on the server's own machine.

The commands use the database directly and need no API key, so whoever is blocked can lift the block.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

import click

from server.access.callers.blocked import BlockedAddresses, never_blocked
from server.cli.base import output
from server.cli.base.administered import AdministrativeWork, administered
from server.cli.base.root import CommandFailure
from server.cli.base.server_settings import read_settings
from server.cli.base.text import FORGED, moment
from server.threats.blocks.bodies import block_body
from server.threats.blocks.book import AddressBook
from server.threats.blocks.changes import BlockChanges
from server.threats.blocks.listing import BlockList, ListedBlock
from server.threats.blocks.rules import MAX_HOURS, address_of_text, require_blockable

OPERATOR = "operator"
PAGE = 1_000
R = TypeVar("R")
_data_dir = click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    help="Data directory of the server (QUIRE_DATA_DIR, .quire).",
)


class BlockWork(NamedTuple):
    """The parts that a command works with."""

    blocked: BlockedAddresses
    changes: BlockChanges
    book: AddressBook
    list: BlockList


@click.group()
def security() -> None:
    """Block addresses and lift blocks, on the server's machine."""


@security.command("list")
@_data_dir
@output.json_option
def list_blocks(data_dir: Path | None, as_json: bool) -> None:
    """List the addresses whose requests are refused now."""
    found = _on_blocks(data_dir, _all)
    if as_json:
        for each in found:
            output.print_json(block_body(each))
        return
    if not found:
        output.print_message("No address is blocked.")
        return
    columns = [
        output.TableColumn("Block", keep=True),
        output.TableColumn("Address", keep=True),
        output.TableColumn("Until", keep=True),
        output.TableColumn("By", keep=True),
        output.TableColumn("Reason"),
    ]
    output.print_table(columns, [_row(each) for each in found])


@security.command()
@click.argument("address")
@click.option("--reason", required=True, help="Why, without the address; recorded as an entry.")
@click.option(
    "--hours",
    type=click.IntRange(1, MAX_HOURS),
    default=1,
    show_default=True,
    help="How long requests are refused.",
)
@_data_dir
@output.json_option
def block(address: str, reason: str, hours: int, data_dir: Path | None, as_json: bool) -> None:
    """Refuse all requests from ADDRESS for some hours, on every server within a second.

    ADDRESS is an IP address; of IPv6 its /64 is blocked, which can be given as such.
    """
    made = _on_blocks(data_dir, lambda work: _block(work, address, reason, hours))
    if as_json:
        output.print_json(block_body(made))
        return
    until = f"{moment(made.until)} UTC"
    click.echo(f"{made.address or address} is blocked until {until} (block {made.block.id}).")


@security.command()
@click.argument("address")
@_data_dir
def unblock(address: str, data_dir: Path | None) -> None:
    """Lift the block of ADDRESS, an IP address or the id of a block."""
    block_id = _on_blocks(data_dir, lambda work: _unblock(work, address))
    output.print_message(f"The block {block_id} is lifted: requests are answered again.")


async def _all(work: BlockWork) -> list[ListedBlock]:
    found: list[ListedBlock] = []
    while page := await work.list.page(found[-1].block.id if found else "", PAGE):
        found += page
    return sorted(found, key=lambda each: each.block.since_us)


async def _block(work: BlockWork, text: str, reason: str, hours: int) -> ListedBlock:
    try:
        address = address_of_text(text)
    except ValueError as error:
        raise CommandFailure(f"ADDRESS {error}") from None
    if not 1 <= len(reason) <= 500 or not reason.isprintable():
        raise CommandFailure("--reason must be 1 to 500 printable characters")
    require_blockable(address, work.blocked.exempt)
    work.book.note(address)
    await work.book.store()
    return await work.list.shown(await work.changes.block(address, hours, reason, OPERATOR))


async def _unblock(work: BlockWork, text: str) -> str:
    try:
        digest = work.blocked.digest(address_of_text(text))
    except ValueError:  # the id of a block
        block_id: str | None = text
    else:
        live = work.list.live().get(digest)
        block_id = None if live is None else live.id
    if block_id is None or await work.changes.lift(block_id, OPERATOR) is None:
        raise CommandFailure(f"{text} is not blocked. List the blocks with: quire security list")
    return block_id


def _on_blocks(data_dir: Path | None, act: Callable[[BlockWork], Awaitable[R]]) -> R:
    settings = read_settings({"data_dir": data_dir})

    async def run(work: AdministrativeWork) -> R:
        administration = work.administration
        register = administration.register
        blocked = BlockedAddresses(
            register,
            work.address_key,
            never_blocked(settings),
            administration.validity.now_us,
        )
        changes = BlockChanges(administration, blocked)
        book = AddressBook(work.database, blocked)
        return await act(
            BlockWork(blocked, changes, book, BlockList(register, changes, blocked, book))
        )

    return administered(settings, run)


def _row(listed: ListedBlock) -> tuple[str, ...]:
    found = listed.state.row
    return (
        listed.block.id,
        listed.address or f"in {listed.block.network}",
        moment(listed.until),
        FORGED if found is None else found.blocked_by,
        "" if found is None else found.reason,
    )
