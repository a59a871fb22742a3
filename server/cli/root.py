"""The outermost group: what every command has in common when it ends badly."""

import contextlib
import os
import sys
from typing import Any, NoReturn

import click

from ledger.errors import QuireError
from server.cli.lazy import LazyGroup
from server.cli.text import printable
from server.extras import missing_package
from server.refusal import StartupRefused

INTERRUPTED = 130  # 128 + SIGINT, as a shell reports it
PIPE_CLOSED = 141  # 128 + SIGPIPE: the reader went away, `quire … | head`


class Failure(click.ClickException):
    """A command that could not do its work: one message without a traceback.

    Not 1, which says that the work was done and the finding is bad.
    """

    exit_code = 2


class Root(LazyGroup):
    """Turns Quire's errors into messages, ^C and closed pipes into quiet exit codes."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()  # at exit it would be too late to be quiet about a closed pipe
            return result
        except KeyboardInterrupt:
            _end(INTERRUPTED)
        except click.Abort as error:
            # A prompt was left: by ^C, or because there was no more input.
            if isinstance(error.__context__, KeyboardInterrupt):
                _end(INTERRUPTED)
            raise Failure("No answer, so nothing was done.") from error
        except BrokenPipeError:
            _discard_output()
            raise click.exceptions.Exit(PIPE_CLOSED) from None
        except (QuireError, StartupRefused) as error:
            raise Failure(printable(str(error), keep_lines=True)) from error
        except ModuleNotFoundError as error:
            message = missing_package(error)
            if message is None:
                raise
            raise Failure(message) from error
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            raise Failure(printable(f"{place}{error.strerror or error}")) from error


def _end(code: int) -> NoReturn:
    click.echo(err=True)  # leaves the line with the terminal's ^C
    raise click.exceptions.Exit(code)


def _discard_output() -> None:
    """Point standard output at nothing, so that Python's last flush does not complain."""
    with contextlib.suppress(OSError, ValueError):  # under a test there is no descriptor
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())
        os.close(nothing)
