"""docs/format.md describes blocks well enough to read them: its program reads a real database."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from ledger.blocks import layout
from ledger.blocks.block import Block, pack
from ledger.blocks.frames import DICTIONARY
from ledger.chain import EMPTY_HEAD, ChainHead, StoredEntry, extend
from ledger.entry import to_datetime
from ledger.storage import database as storage
from ledger.storage.entries import months, writing
from tests.support import blocks
from tests.support.clusters import Database
from tests.support.orgs import add_org
from tests.support.trails import KEY, NOW_US, ORG, ORG_ID, draft

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "format.md").read_text()
START = PAGE.index("\n## Blocks\n")
SECTION = PAGE[START : PAGE.index("\n## ", START + 1)]


def fenced(language: str) -> str:
    """The only fenced block of the section in this language."""
    (text,) = re.findall(rf"^```{language}\n(.+?)^```", SECTION, re.MULTILINE | re.DOTALL)
    return str(text)


def payloads() -> list[bytes]:
    """Payloads of many sizes: one frame and many, compressed and not, empty, larger than a block."""
    rng = random.Random(0)
    return [
        *(b'{"note": "%d"}' % number for number in range(300)),
        b"",
        rng.randbytes(300),
        *(rng.randbytes(rng.randrange(5_000)) for _ in range(40)),
        b"x" * 70_000,
        rng.randbytes(70_000),
        *(b"y" * 3_000 for _ in range(40)),
        rng.randbytes(5 << 20),
        b"the last",
    ]


def trail() -> list[StoredEntry]:
    """A trail of commits of one, of a few and of many entries."""
    made: list[StoredEntry] = []
    head, rest, at_us = EMPTY_HEAD, payloads(), NOW_US
    for count in (1, 2, 300, len(rest)):
        drafts = [draft(payload, subject="ü") for payload in rest[:count]]
        entries, head = extend(ORG_ID, ORG, head, drafts, at_us, KEY)
        made, rest, at_us = made + entries, rest[count:], at_us + 1
    return made


async def test_the_program_reads_every_entry(database: Database, tmp_path: Path) -> None:
    entries = trail()
    pool = await storage.Database.open(database.server_url, size=1)
    try:
        await add_org(pool, ORG_ID, ORG, "Acme", "plain", b"")
        await add_org(pool, ORG_ID + 1, "other", "Other", "plain", b"")
        async with pool.transaction() as connection:
            await months.create(connection, to_datetime(NOW_US))
            await writing.add(connection, entries)
            await writing.add(connection, [entry._replace(org_id=ORG_ID + 1) for entry in entries])
        assert [row["last_seq"] for row in await pool.fetch(documented_statement())][:2] == [0, 2]
    finally:
        await pool.close()
    assert read(database, tmp_path) == [
        f"{entry.seq} {entry.signature.hex()} {entry.leaf.decode()} {entry.payload.hex()}"
        for entry in entries
    ]


def documented_statement() -> str:
    """The SQL of the page on the database, for the org of this test."""
    found = re.findall(
        r"^```sql\n(.+?);\n```", (DOCS / "database.md").read_text(), re.MULTILINE | re.DOTALL
    )
    (statement,) = (one for one in found if f"FROM {blocks.TABLE}" in one)
    return str(statement).replace("'demo'", f"'{ORG}'")


def read(database: Database, folder: Path) -> list[str]:
    """The lines that the program prints."""
    (folder / "read_blocks.py").write_text(fenced("python"))
    (folder / "dictionary.txt").write_text(fenced("text"))
    done = subprocess.run(
        [sys.executable, "-I", "read_blocks.py", database.server_url, ORG, "dictionary.txt"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_program_is_short() -> None:
    assert len([line for line in fenced("python").splitlines() if line.strip()]) <= 50


def test_the_dictionary_is_printed_as_it_is() -> None:
    assert fenced("text").encode() == DICTIONARY + b"\n"
    assert f"{len(DICTIONARY):,} bytes" in SECTION
    assert sha256(DICTIONARY).hexdigest() in SECTION


@pytest.mark.parametrize(
    "number",
    [
        layout.BLOCK_ENTRIES,
        layout.BLOCK_BYTES,
        layout.FRAME_ENTRIES,
        layout.FRAME_BYTES,
        layout.RECORD_BYTES,
        layout.MAX_PAYLOAD_BYTES,
    ],
)
def test_the_numbers_are_those_of_the_code(number: int) -> None:
    assert f"{number:,}" in SECTION


def test_the_columns_are_those_of_a_block() -> None:
    assert re.findall(r"^\| `(\w+)` \|", SECTION, re.MULTILINE) == list(Block._fields)


def test_a_raw_block_has_its_signature_and_leaf_at_fixed_offsets() -> None:
    (entry,), _ = extend(
        ORG_ID, ORG, ChainHead(7, bytes(32), 0), [draft(b"a" * 9_000)], NOW_US, KEY
    )
    block = pack([entry], raw=True)
    assert block.leaves[:32] == entry.signature
    assert block.leaves[32:] == entry.leaf
    assert block.payloads == entry.payload
