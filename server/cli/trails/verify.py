"""`quire verify` and `quire verify-entry`.

Exit codes: 0 verified, 1 refuted, 3 incomplete; 2 if no verdict was reached, which says nothing
about the trail.
"""

from collections.abc import Sequence
from typing import Self

import click
import msgspec
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from ledger.client import Fault, LedgerClient, TrailVerification, VerificationJob
from server.cli.base import output, verdicts
from server.cli.base.arguments import org_argument
from server.cli.base.connection import Connection, client_command
from server.cli.base.text import count


@click.command()
@org_argument
@click.option("--from", "from_seq", type=click.IntRange(min=0), help="First seq of a range.")
@click.option("--to", "to_seq", type=click.IntRange(min=0), help="Last seq of a range.")
@output.json_option
@client_command
def verify(
    connection: Connection, org: str, from_seq: int | None, to_seq: int | None, as_json: bool
) -> None:
    """Verify a trail, or a range of it, and list every fault.

    Exit code 0: verified. 1: refuted. 3: incomplete, something was not checked.
    2: no verdict was reached.
    """
    if from_seq is not None and to_seq is not None and from_seq > to_seq:
        raise click.UsageError(f"The range is empty: --from {from_seq} is after --to {to_seq}.")
    with connection.client(org) as client:
        verdict = _verified(client, from_seq, to_seq)
    if as_json:
        output.print_json(verdict)
    else:
        _print_verdict(org, verdict)
    verdicts.end(verdict.verdict)


@click.command("verify-entry")
@click.argument("record_id")
@output.json_option
@client_command
def verify_entry(connection: Connection, record_id: str, as_json: bool) -> None:
    """Verify one entry: its hash, signature, link, payload, and its place in the signed tree.

    Exit code 0: verified. 1: refuted. 3: incomplete, something was not checked.
    2: no verdict was reached.
    """
    with connection.client() as client:
        verdict = client.verify_entry(record_id)
    if as_json:
        output.print_json(verdict)
    else:
        output.print_fields(
            [
                ("Entry", verdicts.verdict_text(verdict.verdict, record_id)),
                ("Written at", verdict.timestamp.isoformat()),
                *verdicts.check_fields(msgspec.structs.asdict(verdict.checks)),
                *(("Reason", reason) for reason in verdict.errors),
            ]
        )
    verdicts.end(verdict.verdict)


class _Bar:
    """A progress bar on a terminal's standard error; silent elsewhere."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("Verifying"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[faults]}"),
            TimeRemainingColumn(),
            console=output.terminal(),
            transient=True,
        )
        self._task = self._progress.add_task("", total=None, faults="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def __call__(self, job: VerificationJob) -> None:
        faults = count(job.fault_count, "fault") if job.fault_count else ""
        self._progress.update(
            self._task, completed=job.processed, total=job.total or None, faults=faults
        )


def _verified(client: LedgerClient, first: int | None, last: int | None) -> TrailVerification:
    if not output.terminal().is_terminal:
        return client.verify_audit_trail(first, last)
    with _Bar() as bar:
        return client.verify_audit_trail(first, last, bar)


def _print_verdict(org: str, verdict: TrailVerification) -> None:
    fields: list[tuple[str, str | Text]] = [
        ("Trail", verdicts.verdict_text(verdict.verdict, org)),
        ("Entries", _extent(verdict)),
    ]
    if verdict.fault_count:
        fields.append(("Faults", _faults(verdict)))
    if verdict.unsigned_entries:
        wait = count(verdict.unsigned_entries, "entry", "entries")
        fields.append(("Unsigned", f"{wait}, not in a checkpoint yet"))
    checks = msgspec.structs.asdict(verdict.checks)
    output.print_fields([*fields, *verdicts.check_fields(checks, verdict.reasons)])
    if verdict.errors:
        click.echo()
        _print_faults(verdict.errors)
    if (hidden := verdict.fault_count - len(verdict.errors)) > 0:
        output.print_message(f"{count(hidden, 'more fault')} not listed.")


def _extent(verdict: TrailVerification) -> str:
    first, last = verdict.first_seq, verdict.last_seq
    if first is None or last is None or last < first:
        return "none: the trail is empty" if not verdict.total_entries else "none in the range"
    return f"{verdict.verified_entries:,} verified, seq {first} to {last}"


def _faults(verdict: TrailVerification) -> str:
    if not verdict.failed_entries:
        return f"{verdict.fault_count:,}, none of them in an entry"
    return f"{verdict.fault_count:,} in {count(verdict.failed_entries, 'entry', 'entries')}"


def _print_faults(faults: Sequence[Fault]) -> None:
    columns = [
        output.TableColumn("Seq", keep=True, justify="right"),
        output.TableColumn("Fault", keep=True),
        output.TableColumn("Reason"),
    ]
    rows = [("-" if f.seq in (None, -1) else str(f.seq), f.kind, f.reason) for f in faults]
    output.print_table(columns, rows)
