"""A worker process: checks blocks and other objects of one archive.

Started as ``python -m ledger.archive.verification.worker``; it reads its setup and then its work
from stdin and writes its answers to stdout, in MessagePack. It ends when stdin ends.
"""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack

import msgspec

from ledger.archive.reading.fetching import Fetch, fetching
from ledger.archive.targets import TargetSettings
from ledger.archive.verification.blocks import BlockReport, TileBlock, check_block
from ledger.archive.verification.extras import ExtraObjects, check_extras
from ledger.errors import ArchiveError
from ledger.keys import SigningKey, SigningKeyring
from ledger.workers import answers_of_worker, frame, read_message


class ArchiveWorkerSetup(msgspec.Struct, frozen=True, tag=True):
    """The first message to a worker: the target, and the entries' signing keys if any."""

    url: str
    settings: TargetSettings
    keys: tuple[tuple[str, bytes], ...] = ()

    def __repr__(self) -> str:
        return f"ArchiveWorkerSetup({self.url!r})"  # the rest holds secrets

    def keyring(self) -> SigningKeyring | None:
        keys = [SigningKey(key_id, secret) for key_id, secret in self.keys]
        return SigningKeyring(keys, [keys[0].key_id]) if keys else None


class TargetFailure(msgspec.Struct, frozen=True, tag=True):
    """An error of the target: the name of its class, and its message."""

    kind: str
    message: str


Work = TileBlock | ExtraObjects
encode = msgspec.msgpack.Encoder().encode
_decode_setup = msgspec.msgpack.Decoder(ArchiveWorkerSetup).decode
_decode_work = msgspec.msgpack.Decoder(Work).decode
decode_answer = msgspec.msgpack.Decoder(BlockReport | TargetFailure).decode


class ArchiveWorker:
    """Checks work in this process."""

    def __init__(self, setup: ArchiveWorkerSetup) -> None:
        self._open = ExitStack()
        self._fetch: Fetch = self._open.enter_context(fetching(setup.url, setup.settings))
        self._keyring = setup.keyring()

    def check(self, work: Work) -> BlockReport:
        """Check a block of tiles, or other objects. Raises the target's errors."""
        if isinstance(work, TileBlock):
            return check_block(self._fetch, work, self._keyring)
        return check_extras(self._fetch, work, self._keyring)

    def close(self) -> None:
        self._open.close()


def main() -> None:
    """Answer work until stdin ends; other output goes to stderr."""
    answers = os.fdopen(answers_of_worker(), "wb")
    setup = read_message(sys.stdin.buffer)
    if setup is None:
        return
    worker = ArchiveWorker(_decode_setup(setup))
    while (body := read_message(sys.stdin.buffer)) is not None:
        answer: BlockReport | TargetFailure
        try:
            answer = worker.check(_decode_work(body))
        except ArchiveError as error:
            answer = TargetFailure(type(error).__name__, str(error))
        try:
            answers.write(frame(encode(answer)))
            answers.flush()
        except BrokenPipeError:
            break
    worker.close()


if __name__ == "__main__":
    main()
