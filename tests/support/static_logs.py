"""Logs as files, made by the production code."""

from ledger.merkle import Edge, leaf_hash
from ledger.tiles import bundles_of, pack_entries, tiles_of


def entries_of(size: int) -> list[bytes]:
    """Entries that all differ, some of them empty or long."""
    return [b"entry %d" % index * (index % 7) for index in range(size)]


def nothing(_path: str) -> None:
    """Read a log without any file: None for every path."""


def grown_files(entries: list[bytes], size: int) -> dict[str, bytes]:
    """The files of a log that grew from ``size``, with the partial tiles of then that still aren't full."""
    files, _ = log_files(entries)
    then, _ = log_files(entries[:size])
    kept = {path: data for path, data in then.items() if path.partition(".p/")[0] not in files}
    return kept | files


def log_files(entries: list[bytes]) -> tuple[dict[str, bytes], bytes]:
    """Every file of these entries' log by its path, and the root."""
    edge = Edge()
    levels = edge.extend([leaf_hash(entry) for entry in entries])
    files = {
        tile.path(): b"".join(levels[tile.level][tile.index * 256 :][: tile.width])
        for tile in tiles_of(len(entries))
    }
    for bundle in bundles_of(len(entries)):
        files[bundle.path()] = pack_entries(entries[bundle.start :][: bundle.width])
    return files, edge.root()
