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
    ListAnswer,
    ParserAnswer,
    parse_body,
    placed,
    refusal_of,
)
from ledger.intake.record_lists import slices, take_out
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
    if form == BodyForm.RECORD_LISTS:
        _answer_lists(body, answers)
        return
    try:
        events, single = parse_body(BodyForm(form), body, IntakeLimits(max_events, max_payload))
    except InvalidEvent as error:
        _send(answers, ParserAnswer([], refusal=refusal_of(error)))
        return
    found = placed(events, body)
    for first in range(0, len(found), ANSWER_EVENTS):
        last = first + ANSWER_EVENTS
        _send(answers, ParserAnswer(found[first:last], single, more=last < len(found)))


def _answer_lists(body: bytes, answers: IO[bytes]) -> None:
    try:
        rest, lists = take_out(body)
    except InvalidEvent as error:
        _send(answers, ListAnswer(refusal=refusal_of(error)))
        return
    for name, listed in lists.items():
        for texts in slices(listed.texts):
            _send(answers, ListAnswer(name=name, texts=list(texts)))
        if listed.places is None:
            _send(answers, ListAnswer(name=name, places=None))
        for places in slices(listed.places or []):
            _send(answers, ListAnswer(name=name, places=list(places)))
    _send(answers, ListAnswer(rest=rest))


def _send(answers: IO[bytes], answer: ParserAnswer | ListAnswer) -> None:
    answers.write(frame(_encode(answer)))
    answers.flush()


if __name__ == "__main__":
    main()
