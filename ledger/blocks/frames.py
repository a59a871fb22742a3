"""The frames of a block: zstd with a fixed dictionary, or raw where that is not shorter.

A stored frame as long as its content is the content. A shorter one is a zstd frame (RFC 8878)
with the size of its content, made with :data:`DICTIONARY` as a raw-content dictionary, and the
CRC-32 of that frame. zstd's own checksum is not used: it is one of the content, and some bits of a
frame can change without changing its content.
"""

from __future__ import annotations

from functools import cache
from threading import local
from typing import Final
from zlib import crc32

import zstandard

from ledger.blocks.layout import BlockDamaged, Frame

LEVEL: Final = -5
"""A third of level 1's work to write and to read, for half as many bytes more."""
CRC_BYTES: Final = 4
LEAST_BYTES: Final = 14
"""Content of no more bytes is never shorter as a frame with its header and CRC-32."""
DICTIONARY: Final = (
    b'{"amount":,"count":,"created_at":"2026-","currency":"EUR","description":"","email":"@'
    b'","error":null,"id":"","ip":"10.0.0.","message":"","method":"POST","name":"","path":"/v1/'
    b'","reason":"","request_id":"","result":"","session":"","source":"","status":200,"target":"'
    b'","tenant":"","type":"","url":"https://","user":"","user_agent":"Mozilla/5.0 (","value":'
    b'true,false}{"action":"read","action":"write","action":"create","action":"update","action":'
    b'"delete","action":"approve","action":"login","action":null,"actor":null,"actor":"user:'
    b'","actor":"subject:","anchored_at":"2026-11-27T12:00:00.000000Z","data_classification":null'
    b',"data_classification":"confidential","event_type":"user.login","key":"k1","key":"","legal_'
    b'basis":null,"legal_basis":"contract","org":"","outcome":null,"outcome":"failure","outcome":'
    b'"success","payload":{"blake3":"","seal":"aes-256-gcm:","seal":null,"size":254},"previous_'
    b'hash":"0123456789abcdef","seq":,"subject":null,"subject":"subject:","timestamp":null,"timest'
    b'amp":"2026-11-27T12:00:00Z","v":1}'
)
"""Part of the format: it never changes. What leaves and payloads often hold, the likeliest last."""

_CODECS = local()


@cache
def _dictionary() -> zstandard.ZstdCompressionDict:
    return zstandard.ZstdCompressionDict(DICTIONARY, dict_type=zstandard.DICT_TYPE_RAWCONTENT)


def _compressor() -> zstandard.ZstdCompressor:
    """Return the compressor of this thread: one may not serve two threads at once."""
    made: zstandard.ZstdCompressor | None = getattr(_CODECS, "compressor", None)
    if made is None:
        made = _CODECS.compressor = zstandard.ZstdCompressor(
            level=LEVEL, dict_data=_dictionary(), write_content_size=True, write_dict_id=False
        )
    return made


def _decompressor() -> zstandard.ZstdDecompressor:
    made = getattr(_CODECS, "decompressor", None)
    if made is None:
        made = _CODECS.decompressor = zstandard.ZstdDecompressor(dict_data=_dictionary())
    return made


def store(content: bytes) -> bytes:
    """Return the stored form of a frame's content."""
    if len(content) <= LEAST_BYTES:
        return content
    packed = _compressor().compress(content)
    if len(packed) + CRC_BYTES >= len(content):
        return content
    return packed + crc32(packed).to_bytes(CRC_BYTES, "big")


def content_of(stored: bytes, frame: Frame) -> bytes:
    """Return the content of a stored frame. Raises BlockDamaged; inflates at most its size."""
    if len(stored) != frame.size:
        raise BlockDamaged(f"{frame.size - len(stored)} bytes of {_named(frame)} are missing")
    if len(stored) == frame.raw_size:
        return stored
    packed = stored[:-CRC_BYTES]
    if crc32(packed).to_bytes(CRC_BYTES, "big") != stored[-CRC_BYTES:]:
        raise BlockDamaged(f"{_named(frame)} has not the bytes that were written")
    try:
        if zstandard.frame_content_size(packed) != frame.raw_size:
            raise BlockDamaged(f"{_named(frame)} has another size than its entries")
        content = _decompressor().decompress(
            packed, max_output_size=frame.raw_size, allow_extra_data=False
        )
    except zstandard.ZstdError as error:
        raise BlockDamaged(f"{_named(frame)} can't be inflated: {error}") from None
    if len(content) != frame.raw_size:
        raise BlockDamaged(f"{_named(frame)} has another size than its entries")
    return content


def _named(frame: Frame) -> str:
    return f"the frame of its entries {frame.first} to {frame.last}"
