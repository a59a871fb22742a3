"""``quire-verify``: evidence checked by whoever holds it.

No server, no database, no secret, and no network but for a ``--log`` that is a
URL. What is slow to load is loaded when it is needed. Exit codes: 0 verified,
1 refuted, 2 no verdict, 3 incomplete.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO

from ledger import __version__

if TYPE_CHECKING:
    from ledger.evidence.trust import Trust
    from ledger.evidence.verdict import Judgement

FILE_BYTES_MAX: Final = 1 << 21
"""Of the files that say what to trust."""

_ERROR_CHARS_MAX: Final = 400

_EPILOG: Final = """\
exit codes:
  0  verified: all that was asked for was checked and holds
  1  refuted: at least one thing that was checked is false
  2  no verdict: this is no evidence, it was cut or packed anew, or wrong usage
  3  incomplete: nothing that was checked is false, but something was not checked

Asked for are: hashes, payloads, tree, checkpoints, anchors, classical_signature,
pq_signature and keys; external_time where --tsa-ca is given; witnesses where
--policy is given. The check "keys" needs --trust: without it the verdict is
incomplete. The check "signatures" needs the operator's secret and is never made.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code.

    It is 2 for whatever goes wrong here: Python's own for an exception, 1, says refuted.
    """
    try:
        return _run(arguments)
    except Exception as error:  # noqa: BLE001 - whatever it is, it refutes nothing
        _tell_failure(error)
        return 2


def _run(arguments: Sequence[str] | None) -> int:
    options = _parser().parse_args(arguments)
    if options.version:
        sys.stdout.write(f"quire-verify {__version__}\n")
        return 0
    given = [place for place in (options.bundle, options.named, options.log) if place is not None]
    if len(given) != 1:
        sys.stderr.write("quire-verify: name one bundle, or one log with --log (see --help)\n")
        return 2
    options.bundle = options.bundle if options.named is None else options.named
    from ledger.evidence.report import as_json, as_text  # noqa: PLC0415 - not for --help
    from ledger.evidence.verdict import printable  # noqa: PLC0415

    judgement = _judge(options)
    what = options.bundle if options.log is None else options.log
    if judgement.unreadable is not None:
        _write(sys.stderr, f"quire-verify: {printable(what)}: {judgement.unreadable}\n")
    if options.json:
        _write(sys.stdout, as_json(judgement))
    elif judgement.unreadable is None:
        colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        _write(sys.stdout, as_text(judgement, what, colour=colour))
    return judgement.exit_code


def _write(stream: TextIO, text: str) -> None:
    """Write text that the terminal's encoding may not know."""
    stream.buffer.write(text.encode("utf-8", "backslashreplace"))
    stream.flush()


def _tell_failure(error: Exception) -> None:
    """Say why there is no verdict, as far as anything can be said."""
    if isinstance(error, OSError):  # what is left in it would be written at the end, and fail again
        with suppress(Exception):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    said = ascii(f"{type(error).__name__}: {error}"[:_ERROR_CHARS_MAX])[1:-1]
    with suppress(Exception):
        sys.stderr.write(
            f"quire-verify: nothing can be said of it: {said}. Where the output can be written, "
            "please report this as a bug\n"
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="quire-verify",
        description="Check an evidence bundle, or a whole log, offline and without any secret.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("bundle", nargs="?", metavar="BUNDLE", help="the evidence bundle, a .zip")
    add("--bundle", dest="named", metavar="FILE", help="the same, by name")
    add("--log", metavar="FOLDER|URL", help="check an archive or a tiled log instead, file by file")
    add("--trust", metavar="FILE", help="pins of the log's keys (keys.json), or its key history")
    add("--policy", metavar="FILE", help="whose cosignatures are enough (C2SP tlog-policy)")
    add("--tsa-ca", metavar="PEM", help="certificates of the time-stamping authority you trust")
    add(
        "--key",
        metavar="VKEY",
        action="append",
        help="with --log: a key of the log, as name+id+key",
    )
    add("--json", action="store_true", help="the verdict as one JSON object")
    add("--version", action="store_true", help="show the version and stop")
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

        with Path(options.bundle).open("rb") as file:
            return verify_bundle(file, trust)
    except OSError as error:
        return unreadable(f"{error.filename or 'a file'} can't be read: {error.strerror or error}")
    except QuireError as error:
        return unreadable(str(error))


def _trust(options: argparse.Namespace) -> Trust:
    """What the files say that were named. Raises OSError, and QuireError for what they hold."""
    from ledger.errors import KeyHistoryError  # noqa: PLC0415
    from ledger.evidence.trust import Trust  # noqa: PLC0415

    pins = policy = tsa_ca = history = None
    if options.trust is not None:
        from ledger.log_keys import LogKeyHistory, parse_trust  # noqa: PLC0415

        data = _read(options.trust)
        with _naming(options.trust):
            pins = parse_trust(data)
        with suppress(KeyHistoryError):  # then they are pins, which were read
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
    """Name the file in what is wrong with it: several may have been given."""
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
        raise EvidenceError(f"{name} has more than {FILE_BYTES_MAX} bytes; is it the right file?")
    return data


if __name__ == "__main__":
    sys.exit(main())
