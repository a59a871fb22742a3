"""The one writer of entries, which an append and a restore call inside their transactions."""

from ledger.storage.entries.writing.adding import add

__all__ = ["add"]
