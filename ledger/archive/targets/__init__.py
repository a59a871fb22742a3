"""The targets of archives: a folder, or a bucket that locks objects against any change.

A target is opened by its URL and stores objects under keys. An object counts as stored when the
target has read it back: version, retention, legal hold and digest. A target knows nothing of
the contents of an archive, of a database or a server.
"""

from ledger.archive.targets.objects import (
    OBJECT_BYTES_MAX,
    ListedObject,
    ObjectState,
    Readable,
    StoredObject,
    Target,
    TargetSettings,
)
from ledger.archive.targets.url import open_target

__all__ = [
    "OBJECT_BYTES_MAX",
    "ListedObject",
    "ObjectState",
    "Readable",
    "StoredObject",
    "Target",
    "TargetSettings",
    "open_target",
]
