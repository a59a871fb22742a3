"""``quire-verify``: checks a bundle or a log without the server that made it.

It needs no server, no database and no secret, and the network only where ``--log`` is a URL.
Modules that are slow to load are imported when they are needed. Exit codes: 0 verified,
1 refuted, 2 no verdict, 3 incomplete.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO

from ledger import __version__

if TYPE_CHECKING:
    from ledger.evidence.trust import Trust
    from ledger.evidence.verdict import Judgement

FILE_BYTES_MAX: Final = 1 << 21
"""The most bytes of a file with keys, a policy or certificates."""

INTERRUPTED: Final = 130  # 128 + SIGINT, as a shell reports it
_ERROR_CHARS_MAX: Final = 400

_FOLDER: Final = (
    "this is a folder. If a bundle was unpacked into it, verify the original .zip, as it was; an "
    "archive or a tiled log is verified with --log"
)
_EPILOG: Final = """\
exit codes:
  0  verified: every check that was asked for was made and holds
  1  refuted: at least one thing that was checked is false
  2  no verdict: not a bundle or log, cut or packed again, or wrong usage
  3  incomplete: nothing that was checked is false, but something that was
     asked for was not checked

These checks are always asked for: hashes, payloads, tree, checkpoints, anchors,
classical_signature, pq_signature and keys. With --tsa-ca external_time is asked
for too, with --policy witnesses. The check "keys" needs --trust: without it the
verdict is incomplete. The check "signatures" needs the operator's secret and is
never made.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code.

    An unexpected error ends with 2: Python's own exit code for exceptions, 1, means refuted.
    """
    try:
        return _run(arguments)
    except SystemExit:
        raise
    except KeyboardInterrupt:
        return INTERRUPTED
    except BaseException as error:  # noqa: BLE001 - not even a panic of a package in Rust refutes
        _report_failure(error)
        return 2


def _run(arguments: Sequence[str] | None) -> int:
    options = _parser().parse_args(arguments)
    if options.version:
        sys.stdout.write(f"quire-verify {__version__}\n")
        return 0
    given = [place for place in (options.bundle, options.named, options.log) if place is not None]
    if len(given) != 1:
        sys.stderr.write("quire-verify: name one bundle, or one log with --log; see --help\n")
        return 2
    options.bundle = options.bundle if options.named is None else options.named
    from ledger.evidence.report import as_json, as_text  # noqa: PLC0415 - not for --help
    from ledger.evidence.verdict import printable  # noqa: PLC0415

    judgement = _judge(options)
    name = options.bundle if options.log is None else options.log
    if judgement.unreadable is not None:
        _write(sys.stderr, f"quire-verify: {printable(name)}: {judgement.unreadable}\n")
    if options.json:
        _write(sys.stdout, as_json(judgement))
    elif judgement.unreadable is None:
        colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        _write(sys.stdout, as_text(judgement, name, colour=colour))
    return judgement.exit_code


def _write(stream: TextIO, text: str) -> None:
    """Write text as UTF-8, whatever the encoding of the terminal is."""
    stream.buffer.write(text.encode("utf-8", "backslashreplace"))
    stream.flush()


def _report_failure(error: BaseException) -> None:
    """Write to stderr, if that works, why there is no verdict."""
    if isinstance(error, OSError):  # Python would write the rest of stdout at exit, and fail again
        with suppress(Exception):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    reason = ascii(f"{type(error).__name__}: {error}"[:_ERROR_CHARS_MAX])[1:-1]
    with suppress(Exception):
        sys.stderr.write(
            f"quire-verify: no verdict, because of an unexpected error ({reason}). If the output "
            "could be written, please report this as a bug\n"
        )


class _Once(argparse.Action):
    """Stores the value of an option, and refuses a second one: the first would not be used."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        if getattr(namespace, self.dest) is not None:
            parser.error(f"{option_string} is given twice; give it once")
        setattr(namespace, self.dest, values)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="quire-verify",
        description="Check an evidence bundle, or a whole log, offline and without any secret.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    once = partial(add, action=_Once)
    add("bundle", nargs="?", metavar="BUNDLE", help="the evidence bundle, a .zip")
    once("--bundle", dest="named", metavar="FILE", help="another way to name the bundle")
    once("--log", metavar="FOLDER|URL", help="check an archive or a tiled log instead of a bundle")
    once("--trust", metavar="FILE", help="pins of the log's keys (keys.json), or its key history")
    once("--policy", metavar="FILE", help="the witnesses you trust, as a C2SP tlog-policy")
    once("--tsa-ca", metavar="PEM", help="certificates of the time-stamping authority you trust")
    add(
        "--key",
        metavar="VKEY",
        action="append",
        help="with --log: a key of the log, as name+id+key",
    )
    add("--json", action="store_true", help="print the verdict as one JSON object")
    add("--version", action="store_true", help="print the version and exit")
    return parser


def _judge(options: argparse.Namespace) -> Judgement:
    from ledger.errors import QuireError  # noqa: PLC0415
    from ledger.evidence.verdict import unreadable  # noqa: PLC0415

    try:
        trust = _trust(options)
        if options.log is not None:
            from ledger.evidence.logs import verify_log_at  # noqa: PLC0415

            return verify_log_at(options.log, trust, options.key or ())
        from ledger.evidence.verification import verify_bundle  # noqa: PLC0415

        bundle = Path(options.bundle)
        if bundle.is_dir():
            return unreadable(_FOLDER)
        with bundle.open("rb") as file:
            return verify_bundle(file, trust)
    except OSError as error:
        return unreadable(f"{error.filename or 'a file'} can't be read: {error.strerror or error}")
    except QuireError as error:
        return unreadable(str(error))


def _trust(options: argparse.Namespace) -> Trust:
    """Read the files of --trust, --policy and --tsa-ca.

    Raises OSError for a file that can't be read, QuireError for content that is not valid.
    """
    from ledger.errors import KeyHistoryError  # noqa: PLC0415
    from ledger.evidence.trust import Trust  # noqa: PLC0415

    pins = policy = tsa_ca = history = None
    if options.trust is not None:
        from ledger.log_keys import LogKeyHistory, parse_trust  # noqa: PLC0415

        data = _read(options.trust)
        with _naming(options.trust):
            pins = parse_trust(data)
        with suppress(KeyHistoryError):  # the file has pins instead, parsed above
            history = LogKeyHistory.parse(data)
    if options.policy is not None:
        from ledger.policy import parse_policy  # noqa: PLC0415

        with _naming(options.policy):
            policy = parse_policy(_read(options.policy))
    if options.tsa_ca is not None:
        from ledger.timestamp import check_trust  # noqa: PLC0415

        tsa_ca = _read(options.tsa_ca)
        with _naming(options.tsa_ca):
            check_trust(tsa_ca)
    return Trust(pins, policy, tsa_ca, history)


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Add the file's name to the block's errors: several files may be given."""
    from ledger.errors import EvidenceError, QuireError  # noqa: PLC0415

    try:
        yield
    except QuireError as error:
        raise EvidenceError(f"{name}: {error}") from error


def _read(name: str) -> bytes:
    from ledger.errors import EvidenceError  # noqa: PLC0415

    with Path(name).open("rb") as file:
        data = file.read(FILE_BYTES_MAX + 1)
    if len(data) > FILE_BYTES_MAX:
        raise EvidenceError(
            f"{name} has more than {FILE_BYTES_MAX} bytes. Check that it is the right file"
        )
    return data


if __name__ == "__main__":
    sys.exit(main())
