"""Running `quire` in this process, as a fork or as a new process, and the tree of its commands."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import click
from click.testing import CliRunner, Result

from server.cli.main import main
from tests.support.forked_quire import run_forked
from tests.support.restored_logging import restored_logging

QUIRE = (
    sys.executable,
    "-c",
    "import sys; from server.cli.main import main; main(prog_name='quire')",
)
TIMEOUT_SECONDS = 60


class Leaf(NamedTuple):
    """A command that is not a group: its words after `quire`, and the click command."""

    path: tuple[str, ...]
    command: click.Command


def leaves(group: click.Group = main, path: tuple[str, ...] = ()) -> Iterator[Leaf]:
    """Every command that is not a group."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from leaves(command, (*path, name))
        else:
            yield Leaf((*path, name), command)


def environment(settings: Mapping[str, str] | None = None) -> dict[str, str]:
    """The test's environment with only these of Quire's settings, and 80 columns."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("QUIRE_")}
    for name in ("AUDIT_SECRET_KEY", "QWED_AUDIT_SECRET_KEY"):
        kept.pop(name, None)
    return {**kept, "COLUMNS": "80", **(settings or {})}


def invoke(*arguments: str, settings: Mapping[str, str] | None = None) -> Result:
    """Run `quire` in this process, whose logging a server that begins to start would configure."""
    unset: dict[str, str | None] = dict.fromkeys(os.environ)
    with restored_logging():
        return CliRunner().invoke(
            main, arguments, prog_name="quire", env={**unset, **environment(settings)}
        )


def run(
    *arguments: str,
    settings: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run `quire` as a process, with its output in pipes."""
    return subprocess.run(
        [*QUIRE, *arguments],
        env=environment(settings),
        input=stdin,
        cwd=cwd,
        capture_output=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )


def call(
    *arguments: str,
    settings: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run `quire` as `run` does, in a fork of a process that has imported it."""
    return run_forked(arguments, environment(settings), stdin, cwd)
