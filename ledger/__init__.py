"""Quire's core: the formats, the client, the storage and the sequencer.

The modules directly in this package are pure: bytes in, bytes out, no I/O,
clock, environment or asyncio. Code that does I/O lives in subpackages.
"""

__version__ = "0.1.0"
