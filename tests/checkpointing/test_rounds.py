"""The checkpointer on real trails: its checkpoints are right, complete and consistent."""

from pathlib import Path

from ledger import merkle
from ledger.core.checkpointing import RoundLimits
from ledger.log_keys import open_anchor, open_org_checkpoint
from ledger.storage import trees
from tests.support import clusters
from tests.support.appending import new_org, process, rows_of
from tests.support.signing import checkpointer, log_keys

HISTORY = log_keys().public()


async def test_every_round_signs_the_whole_trail(
    database: clusters.Database, tmp_path: Path
) -> None:
    async with process(database.server_url) as server:
        org = await new_org(server.database)
        async with checkpointer(database.server_url, tmp_path / "memory") as signer:
            for count in (1, 2, 253, 1, 300, 5):
                await server.append(org, *[b"x%d" % n for n in range(count)])
                report = await signer.round()
                assert (report.checkpoints, report.entries, report.stopped) == (1, count, [])
                newest = await trees.newest_checkpoint(server.database, org.id)
                assert newest is not None
                opened = open_org_checkpoint(newest.note, org.slug, HISTORY).checkpoint
                hashes = [row.entry_hash for row in await rows_of(database, org.id)]
                assert (opened.size, opened.root) == (len(hashes), merkle.root(hashes))
            assert (await signer.round()).checkpoints == 0


async def test_a_backlog_is_signed_in_portions(database: clusters.Database, tmp_path: Path) -> None:
    async with process(database.server_url) as server:
        org = await new_org(server.database)
        await server.append(org, *[b"x%d" % n for n in range(1_000)])
        pace = RoundLimits(entries_per_org=300, retry_s=0)
        async with checkpointer(database.server_url, tmp_path / "memory", pace=pace) as signer:
            reports = [await signer.round() for _ in range(4)]
            assert [(report.entries, report.behind) for report in reports] == [
                (300, 700),
                (300, 400),
                (300, 100),
                (100, 0),
            ]


async def test_anchors_commit_to_every_checkpoint(
    database: clusters.Database, tmp_path: Path
) -> None:
    async with process(database.server_url) as server:
        orgs = [await new_org(server.database) for _ in range(5)]
        async with checkpointer(database.server_url, tmp_path / "memory") as signer:
            for size in (5, 10):
                for org in orgs:
                    await server.append(org, b"one")
                assert (await signer.round()).checkpoints == 5
                assert await signer.anchor() == size
                assert await signer.anchor() is None
            newest = await trees.newest_checkpoint(server.database, trees.ANCHOR_LOG)
            assert newest is not None
            anchor = open_anchor(newest.note, HISTORY).checkpoint
            leaves = await server.database.fetch(
                "SELECT leaf, org_id, size FROM anchor_leaves ORDER BY idx"
            )
            assert anchor.root == merkle.root([merkle.leaf_hash(leaf) for leaf, _, _ in leaves])
            assert {(org_id, size) for _, org_id, size in leaves} == {
                (org.id, size) for org in orgs for size in (1, 2)
            }
