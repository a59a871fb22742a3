"""`quire bundle`: evidence as a file."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from ledger.client.models import BundleDisclosure, BundleRequest
from server.cli.base import output
from server.cli.base.arguments import Time, org_argument
from server.cli.base.connection import Connection, client_command
from server.cli.base.root import CommandFailure
from server.cli.base.text import count, printable

_RECORD_BYTES = 36
_RECORDS_MAX = 200_000


@click.group()
def bundle() -> None:
    """Export entries and their proofs, as one file that is verified without a server."""


@bundle.command()
@org_argument
@click.option(
    "--record", "records", multiple=True, metavar="ID", help="Include this entry; repeatable."
)
@click.option(
    "--records",
    "listed",
    type=click.File("rb"),
    help="Include the entries whose ids are in this file, one a line.",
)
@click.option("--from", "from_seq", type=click.IntRange(min=0), help="First seq of a range.")
@click.option("--to", "to_seq", type=click.IntRange(min=0), help="Last seq of a range.")
@click.option("--event-type", help="Only entries of this type.")
@click.option("--actor", help="Only entries of this actor.")
@click.option("--subject", help="Only entries about this person.")
@click.option("--action", help="Only entries with this action.")
@click.option("--outcome", help="Only entries with this outcome.")
@click.option("--since", type=Time(), help="Only entries written at this time or later.")
@click.option("--until", type=Time(), help="Only entries written before this time.")
@click.option("--no-payloads", is_flag=True, help="Leave the payloads out.")
@click.option("--no-proofs", is_flag=True, help="Leave the proofs of the entries out.")
@click.option("--no-anchor", is_flag=True, help="Leave anchor and timestamps out; do not wait.")
@click.option("--disclose", multiple=True, metavar="ID", help="Open this entry; repeatable.")
@click.option("--disclose-all", is_flag=True, help="Open every entry of the bundle.")
@click.option(
    "--disclose-field",
    "fields",
    multiple=True,
    type=click.Choice(["payload", "actor", "subject"]),
    help="Field of those entries to open; repeatable. By default the payload.",
)
@click.option(
    "--output",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file to write; by default quire-ORG-TIME.zip here.",
)
@output.json_option
@client_command
def create(
    connection: Connection, /, org: str, path: Path | None, as_json: bool, **options: Any
) -> None:
    """Write an evidence bundle: entries, proofs, signatures and keys in one zip.

    Select entries by --record or --records, by a range (--from, --to), or by filters. Each
    disclosure is recorded as an entry of the trail.
    """
    request = _request(options)
    path = path or Path(f"quire-{org}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.zip")
    if path.exists():
        raise CommandFailure(f"{path} exists. Move it away, or name another file with --output.")
    with connection.client(org) as client:
        client.export_evidence_bundle(**request).save(path)
    size = path.stat().st_size
    if as_json:
        output.print_json({"file": printable(str(path)), "bytes": size})
        return
    click.echo(os.fsencode(path))  # exactly the file's name, which may be any bytes
    output.print_message(f"{count(size, 'byte')}. To verify it: quire-verify {path}")


def _request(options: dict[str, Any]) -> BundleRequest:
    """Return the request that the options describe. Raises UsageError where they contradict."""
    records, disclosure = _records(options), _disclosure(options)
    filters = ("event_type", "actor", "subject", "action", "outcome", "since", "until")
    request: BundleRequest = {
        "include_payloads": not options["no_payloads"],
        "include_merkle_proofs": not options["no_proofs"],
        "include_pq_attestation": not options["no_anchor"],
    }
    if disclosure is not None:
        request["disclose"] = disclosure
    ranged = options["from_seq"] is not None or options["to_seq"] is not None
    filtered = any(options[name] is not None for name in filters)
    if sum((bool(records), ranged, filtered)) != 1:
        raise click.UsageError(
            "Select entries in one way: --record or --records, --from and --to, or filters."
        )
    if records:
        request["record_ids"] = records
    elif ranged:
        request["from_seq"], request["to_seq"] = options["from_seq"], options["to_seq"]
    else:
        request |= {name: options[name] for name in filters}  # type: ignore[typeddict-item]
    return request


def _records(options: dict[str, Any]) -> list[str]:
    records = list(options["records"])
    if options["listed"] is not None:
        content = options["listed"].read(_RECORDS_MAX * (_RECORD_BYTES + 2))
        try:
            records += content.decode().split()
        except UnicodeDecodeError:
            raise click.UsageError("The file of --records is not UTF-8 text.") from None
    return records


def _disclosure(options: dict[str, Any]) -> BundleDisclosure | None:
    records, everything, fields = options["disclose"], options["disclose_all"], options["fields"]
    if records and everything:
        raise click.UsageError("Give --disclose or --disclose-all, not both.")
    if not records and not everything:
        if fields:
            raise click.UsageError("--disclose-field needs --disclose or --disclose-all.")
        return None
    return {"records": list(records) or "all", "fields": list(dict.fromkeys(fields)) or ["payload"]}
