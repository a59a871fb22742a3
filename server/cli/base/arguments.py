"""Arguments of commands: the optional org, times, and the check that text is Unicode."""

import os
import re
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from ledger.errors import InvalidTime
from ledger.times import bound

F = TypeVar("F", bound=Callable[..., Any])

_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_SURROGATE = re.compile("[\ud800-\udfff]")


def org_argument(function: F) -> F:
    """Decorator: adds the optional argument ORG; `client_command` derives it from the API key.

    A required argument after ORG is filled first, so a single value is not read as ORG.
    """
    add = click.argument("org", nargs=-1, metavar="[ORG]", callback=_one_org)
    decorated: F = add(function)
    return decorated


def _one_org(_context: click.Context, _argument: click.Parameter, given: Any) -> str | None:
    if len(given) > 1:
        raise click.UsageError(f"Got unexpected extra arguments ({' '.join(given[1:])})")
    return given[0] if given else None


class FileOrOrg(click.File):
    """The type of FILE after an optional ORG: a single value is ORG if it could be a slug."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if ctx is not None and not ctx.params.get("org") and _is_slug(value):
            ctx.params["org"], value = value, "-"
        if value == "-" and sys.stdin is None:
            self.fail("standard input is closed; name a FILE", param, ctx)
        return super().convert(value, param, ctx)


def _is_slug(value: Any) -> bool:
    return isinstance(value, str) and _SLUG.fullmatch(value) is not None


class Time(click.ParamType[str]):
    """A time or a date as the HTTP API takes it; without an offset it is UTC."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            bound(str(value))
        except InvalidTime as error:
            shown = str(value).encode("unicode_escape", "surrogatepass").decode("ascii")
            self.fail(f"'{shown}' {error}", param, ctx)
        return str(value)


def require_unicode(command: click.Command) -> click.Command:
    """Make a command, or all commands of a group, refuse arguments that are not UTF-8.

    Only file names may be any bytes. Python represents such bytes as surrogates, which can't be
    sent or stored. A second call for the same command changes nothing.
    """
    for parameter in command.params:
        if not isinstance(parameter.type, click.File | click.Path):
            parameter.callback = _Checked.of(parameter.callback)
    if isinstance(command, click.Group):
        for child in command.commands.values():
            require_unicode(child)
    return command


class _Checked:
    """A parameter's callback, preceded by the check that the value is Unicode."""

    def __init__(self, after: Callable[..., Any] | None) -> None:
        self._after = after

    @classmethod
    def of(cls, callback: Callable[..., Any] | None) -> "_Checked":
        return callback if isinstance(callback, cls) else cls(callback)

    def __call__(self, ctx: click.Context, param: click.Parameter, value: Any) -> Any:
        try:
            checked = tuple(map(_unicode, value)) if isinstance(value, tuple) else _unicode(value)
        except UnicodeDecodeError:
            source = ctx.get_parameter_source(param.name or "")
            of = f" of {param.envvar}" if source is ParameterSource.ENVIRONMENT else ""
            raise click.BadParameter(
                f"the value{of} is not UTF-8 text.", ctx=ctx, param=param
            ) from None
        return checked if self._after is None else self._after(ctx, param, checked)


def _unicode(value: Any) -> Any:
    """Return the value; text decoded with a smaller encoding (LC_ALL=POSIX) is decoded again."""
    if isinstance(value, str) and _SURROGATE.search(value):
        return os.fsencode(value).decode()
    return value
