"""Reads and parses request bodies: in time, bounded, and never at the cost of other requests."""

from server.http.bodies.json_bodies import MAX_BYTES, decoded, json_body
from server.http.bodies.listing_bodies import MAX_BODY_BYTES, listing_body
from server.http.bodies.parsing import parsed_body
from server.http.bodies.reading import SMALL_BYTES, BodyRoom, announced_bytes, body_of, body_room
from server.http.bodies.refused import RefusedBytes, charge, refused_bytes

__all__ = [
    "MAX_BODY_BYTES",
    "MAX_BYTES",
    "SMALL_BYTES",
    "BodyRoom",
    "RefusedBytes",
    "announced_bytes",
    "body_of",
    "body_room",
    "charge",
    "decoded",
    "json_body",
    "listing_body",
    "parsed_body",
    "refused_bytes",
]
