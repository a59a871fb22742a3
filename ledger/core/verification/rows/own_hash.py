"""The hash by which an entry inside a block is judged: no column has it.

The next leaf names it. If the two differ, either leaf may be the altered one; the signature says
which.
"""

from __future__ import annotations

from ledger.chain import StoredEntry
from ledger.entry import HASH_BYTES, decode_leaf, entry_hash
from ledger.errors import MalformedLeaf, UnknownKey
from ledger.keys import SigningKeyring
from ledger.storage.database import Database
from ledger.storage.entries.picked import single


def hash_inside_block(
    named: bytes, leaf: bytes, signature: bytes, keyring: SigningKeyring
) -> bytes:
    """Return the stored hash of an entry that is not the last of its block.

    It is the hash ``named`` by the next leaf. Where the signature fits the entry's own leaf, the
    next leaf is to blame for another hash: then, and where it names none, it is the hash of the
    entry's own leaf.
    """
    digest = entry_hash(leaf)
    if len(named) != HASH_BYTES or named == digest or _fits(leaf, digest, signature, keyring):
        return digest
    return named


def _fits(leaf: bytes, digest: bytes, signature: bytes, keyring: SigningKeyring) -> bool:
    try:
        return keyring.get(decode_leaf(leaf).key).verify(digest, signature)
    except (MalformedLeaf, UnknownKey):
        return False


async def with_own_hash(
    database: Database, row: StoredEntry, keyring: SigningKeyring
) -> StoredEntry:
    """Return an entry as it was read, but with its own hash where the next entry is to blame.

    An entry inside a block has no hash beside it: it was read with the hash that the next
    leaf names.
    """
    if row.entry_hash == entry_hash(row.leaf) or await single.ends_block(database, row):
        return row
    own = hash_inside_block(row.entry_hash, row.leaf, row.signature, keyring)
    return row._replace(entry_hash=own)
