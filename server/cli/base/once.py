"""Makes a command refuse an option that it takes once and that is given twice.

click keeps the last value without a word: of two filters one would be ignored, and an empty list
would look like "nothing happened".
"""

from collections import Counter
from typing import Any

import click
from click.core import Context


def refuse_repeats(command: click.Command) -> click.Command:
    """Make a command, or all commands of a group, refuse repeated options.

    A second call for the same command changes nothing.
    """
    if not isinstance(vars(command).get("make_parser"), _OnceParser):
        vars(command)["make_parser"] = _OnceParser(command)
    if isinstance(command, click.Group):
        for child in command.commands.values():
            refuse_repeats(child)
    return command


class _OnceParser:
    """Makes the parser of a command, in whose results each option counts."""

    def __init__(self, command: click.Command) -> None:
        self._make = command.make_parser

    def __call__(self, ctx: Context) -> Any:
        parser: Any = self._make(ctx)
        parse = parser.parse_args

        def parse_args(args: list[str]) -> Any:
            options, rest, order = parse(args=args)
            for parameter, times in Counter(order).items():
                if times > 1 and _is_single(parameter):
                    raise click.BadParameter(
                        "it is given twice; give it once.", ctx=ctx, param=parameter
                    )
            return options, rest, order

        parser.parse_args = parse_args
        return parser


def _is_single(parameter: click.Parameter) -> bool:
    """Return whether two values of an option contradict each other; a repeated flag does not."""
    if not isinstance(parameter, click.Option) or parameter.multiple or parameter.count:
        return False
    return not parameter.is_flag or bool(parameter.secondary_opts)
