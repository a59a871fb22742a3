"""A parser: a process that parses one body after the other until its stdin ends.

It is started as ``python -m ledger.intake.worker``.
"""

from __future__ import annotations

import gc
import os
import sys
from typing import IO

import msgspec

from ledger.errors import InvalidEvent
from ledger.intake.bodies import (
    ANSWER_EVENTS,
    ORDER,
    BodyForm,
    IntakeLimits,
    ParserAnswer,
    parse_body,
    placed,
    refusal_of,
)
from ledger.workers import answers_of_worker, frame, read_message

_encode = msgspec.msgpack.Encoder().encode


def main() -> None:
    """Answer messages until the parent closes the pipe, or ended."""
    answers = os.fdopen(answers_of_worker(), "wb")
    gc.disable()  # what is made of a body has no cycles
    while (message := read_message(sys.stdin.buffer)) is not None:
        _answer(message, answers)
        del message
        gc.collect(0)


def _answer(message: bytes, answers: IO[bytes]) -> None:
    form, max_events, max_payload = ORDER.unpack_from(message)
    body = message[ORDER.size :]
    try:
        events, single = parse_body(BodyForm(form), body, IntakeLimits(max_events, max_payload))
    except InvalidEvent as error:
        _send(answers, ParserAnswer([], refusal=refusal_of(error)))
        return
    found = placed(events, body)
    for first in range(0, len(found), ANSWER_EVENTS):
        last = first + ANSWER_EVENTS
        _send(answers, ParserAnswer(found[first:last], single, more=last < len(found)))


def _send(answers: IO[bytes], answer: ParserAnswer) -> None:
    answers.write(frame(_encode(answer)))
    answers.flush()


if __name__ == "__main__":
    main()
