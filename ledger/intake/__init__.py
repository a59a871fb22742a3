"""Parses the bodies of appends, large ones in processes of their own.

A thread would not do: a decoder written in C keeps the interpreter's lock, and so the event loop,
for as long as it runs.
"""

from ledger.intake.bodies import BodyForm, IntakeLimits, body_pieces, parse_body
from ledger.intake.pool import ParserLost, ParserPool

__all__ = ["BodyForm", "IntakeLimits", "ParserLost", "ParserPool", "body_pieces", "parse_body"]
