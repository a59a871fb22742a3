"""The entry kinds of the toys."""

from typing import Final

from server.feature import EntryKind

WOUND: Final = EntryKind("quire.toy_wound", "A toy was wound: by whom, and by how many turns.")
