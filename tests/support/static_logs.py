"""Logs as files, made by the code that makes them in production."""

from ledger.merkle import Edge, leaf_hash
from ledger.tiles import bundles_of, pack_entries, tiles_of


def entries_of(size: int) -> list[bytes]:
    """Entries that differ, some of them empty or long."""
    return [b"entry %d" % index * (index % 7) for index in range(size)]


def nothing(_path: str) -> None:
    """Reads a log of which no file is there."""


def grown_files(entries: list[bytes], size: int) -> dict[str, bytes]:
    """The same, grown from ``size``; of then it keeps the partial tiles that are not full yet."""
    files, _ = log_files(entries)
    then, _ = log_files(entries[:size])
    kept = {path: data for path, data in then.items() if path.partition(".p/")[0] not in files}
    return kept | files


def log_files(entries: list[bytes]) -> tuple[dict[str, bytes], bytes]:
    """Every file of the log of these entries by its path, and the root."""
    edge = Edge()
    levels = edge.extend([leaf_hash(entry) for entry in entries])
    files = {
        tile.path(): b"".join(levels[tile.level][tile.index * 256 :][: tile.width])
        for tile in tiles_of(len(entries))
    }
    for bundle in bundles_of(len(entries)):
        files[bundle.path()] = pack_entries(entries[bundle.start :][: bundle.width])
    return files, edge.root()
