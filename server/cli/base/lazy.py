"""Command groups that import a command only when it is run.

`quire --help` and the client commands start without the database driver and the web framework:
the names and summaries in the help of a group come from its table, not from the modules.
"""

from collections.abc import Mapping
from typing import Any

import click

from server.cli.base.arguments import require_unicode
from server.cli.base.once import refuse_repeats
from server.feature import Command, load


class LazyGroup(click.Group):
    """A group whose commands are imported by name; the help lists them in the table's order."""

    def __init__(
        self, name: str | None = None, *, lazy: Mapping[str, Command], **settings: Any
    ) -> None:
        super().__init__(name, **settings)
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        entry = self._lazy.get(cmd_name)
        if entry is None:
            return None
        command = load(entry.target)
        assert isinstance(command, click.Command)
        return refuse_repeats(require_unicode(command))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.exceptions.NoSuchCommand as error:
            # click would suggest similar names only among the loaded commands.
            name = error.command_name
            raise click.exceptions.NoSuchCommand(name, possibilities=self._lazy, ctx=ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in self._lazy.items()])
