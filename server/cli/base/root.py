"""The outermost command group: turns the errors of all commands into messages and exit codes."""

import contextlib
import io
import os
import sys
import traceback
from typing import Any, NoReturn

import click

from ledger.errors import QuireError
from server.cli.base.lazy import LazyGroup
from server.cli.base.locales import use_utf8
from server.cli.base.text import printable
from server.cli.extras import DEBUG_VARIABLE, missing_package
from server.refusal import StartupRefused

INTERRUPTED = 130  # 128 + SIGINT, as a shell reports it
_ERROR_CHARS_MAX = 400
PIPE_CLOSED = 141  # 128 + SIGPIPE: the reader closed the pipe, `quire … | head`


class CommandFailure(click.ClickException):
    """A command that could not do its work: one message without a traceback.

    The exit code is not 1, which means that the work was done and the finding is bad.
    """

    exit_code = 2


class RootGroup(LazyGroup):
    """Turns every error into a message and exit code 2, ^C and a closed pipe into a code alone.

    Python's own exit code for an exception is 1, which means that a trail has a fault.
    """

    def main(self, *args: Any, **extra: Any) -> Any:
        use_utf8()
        _accept_any_text(sys.stdout, sys.stderr)
        try:
            return super().main(*args, **extra)
        except Exception:  # the message can't be written, or the arguments can't be read
            if not extra.get("standalone_mode", True):
                raise
            _discard(sys.stdout, sys.stderr)
            sys.exit(CommandFailure.exit_code)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            if sys.stdout is not None:
                sys.stdout.flush()  # at exit it would be too late to be quiet about a closed pipe
            return result
        except KeyboardInterrupt:
            _end(INTERRUPTED)
        except click.Abort as error:
            # A prompt got no answer: ^C, or the end of the input.
            if isinstance(error.__context__, KeyboardInterrupt):
                _end(INTERRUPTED)
            raise CommandFailure("No answer, so nothing was done.") from error
        except (click.ClickException, click.exceptions.Exit, SystemExit):
            raise
        except BrokenPipeError:
            _discard(sys.stdout)
            raise click.exceptions.Exit(PIPE_CLOSED) from None
        except BaseException as error:  # a panic of a package in Rust is not an Exception
            # If standard output can't be written, flushing the rest at exit would fail again.
            _discard(*(() if _is_writable(sys.stdout) else (sys.stdout,)))
            raise _failure(error) from error


def _failure(error: BaseException) -> CommandFailure:
    """Return the message for an error; for an unexpected one, with the way to its traceback."""
    if isinstance(error, QuireError | StartupRefused):
        return CommandFailure(printable(str(error), keep_lines=True))
    missing = missing_package(error) if isinstance(error, ModuleNotFoundError) else None
    if missing is not None:
        return CommandFailure(missing)
    if isinstance(error, OSError):
        place = f"{os.fsdecode(error.filename)}: " if error.filename else ""
        return CommandFailure(printable(f"{place}{error.strerror or error}"))
    if os.environ.get(DEBUG_VARIABLE):
        traceback.print_exception(error)
    if isinstance(error, UnicodeError):  # which may quote a key, so it is not shown
        return CommandFailure(
            "The input is not UTF-8 text: check the arguments, the files that they name, and the "
            "environment variables that begin with QUIRE_."
        )
    reason = " ".join(str(error).split())[:_ERROR_CHARS_MAX]
    if type(error).__module__.partition(".")[0] == "asyncpg":  # not imported for its names alone
        return CommandFailure(printable(f"The database reports an error: {reason}"))
    return CommandFailure(
        printable(
            f"Unexpected error: {reason or 'no details'}. Please report it with the traceback, "
            f"which {DEBUG_VARIABLE}=1 prints."
        )
    )


def _end(code: int) -> NoReturn:
    click.echo(err=True)  # ends the line on which the terminal shows ^C
    raise click.exceptions.Exit(code)


def _accept_any_text(*streams: Any) -> None:
    """Print characters that a stream's encoding lacks as escapes."""
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _is_writable(stream: Any) -> bool:
    try:
        stream.flush()
    except (OSError, ValueError, AttributeError):
        return False
    return True


def _discard(*streams: Any) -> None:
    """Redirect streams to /dev/null, so that Python's last flush does not fail."""
    for stream in streams:
        with contextlib.suppress(OSError, ValueError, AttributeError):  # in a test: no descriptor
            devnull = os.open(os.devnull, os.O_WRONLY)
            os.dup2(devnull, stream.fileno())
            os.close(devnull)
