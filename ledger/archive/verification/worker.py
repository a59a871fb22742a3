"""A worker process: checks blocks and other objects of one archive.

Started as ``python -m ledger.archive.verification.worker``, with its gear and then its work
on stdin and its answers on stdout, in MessagePack. It ends when stdin does.
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
    """What a worker needs once: where the target is, and the entries' signing keys if any."""

    url: str
    settings: TargetSettings
    keys: tuple[tuple[str, bytes], ...] = ()

    def __repr__(self) -> str:
        return f"ArchiveWorkerSetup({self.url!r})"  # the rest holds secrets

    def keyring(self) -> SigningKeyring | None:
        keys = [SigningKey(key_id, secret) for key_id, secret in self.keys]
        return SigningKeyring(keys, [keys[0].key_id]) if keys else None


class TargetFailure(msgspec.Struct, frozen=True, tag=True):
    """An error of the target, by the name of its class."""

    kind: str
    message: str


Work = TileBlock | ExtraObjects
encode = msgspec.msgpack.Encoder().encode
_gear = msgspec.msgpack.Decoder(ArchiveWorkerSetup).decode
_work = msgspec.msgpack.Decoder(Work).decode
decode_answer = msgspec.msgpack.Decoder(BlockReport | TargetFailure).decode


class ArchiveWorker:
    """Does the work, in this process."""

    def __init__(self, gear: ArchiveWorkerSetup) -> None:
        self._open = ExitStack()
        self._fetch: Fetch = self._open.enter_context(fetching(gear.url, gear.settings))
        self._keyring = gear.keyring()

    def check(self, work: Work) -> BlockReport:
        """Check a block of tiles, or other objects. Raises the target's errors."""
        if isinstance(work, TileBlock):
            return check_block(self._fetch, work, self._keyring)
        return check_extras(self._fetch, work, self._keyring)

    def close(self) -> None:
        self._open.close()


def main() -> None:
    """Work until stdin ends; whatever else is printed goes to stderr."""
    answers = os.fdopen(answers_of_worker(), "wb")
    gear = read_message(sys.stdin.buffer)
    if gear is None:
        return
    worker = ArchiveWorker(_gear(gear))
    while (body := read_message(sys.stdin.buffer)) is not None:
        answer: BlockReport | TargetFailure
        try:
            answer = worker.check(_work(body))
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
