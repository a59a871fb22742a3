"""Written bundles have the same bytes each time, members in order, and are zips that any tool reads."""

from __future__ import annotations

import shutil
import subprocess
import zipfile
import zlib
from io import BytesIO
from pathlib import Path

import pytest

from ledger.errors import EvidenceError
from ledger.evidence import format as bundle_format
from ledger.evidence import members, texts
from ledger.evidence.format import (
    BATCH_BYTES,
    MEMBER_BYTES_MAX,
    TOKENS_MAX,
    PayloadLine,
    Request,
    decode,
    read_manifest,
)
from ledger.evidence.reader import BundleFile
from ledger.evidence.writer import BundledAnchoring, BundleWriter
from ledger.evidence.zip_layout import ZipDirectory, ZipWriter, central_header, end, local_header
from tests.support.evidence import PAGE, members_of, scene

LEAF = b'{"v":1}'


def started(request: Request | None = None, size: int = 10_000) -> tuple[BundleWriter, BytesIO]:
    out = BytesIO()
    writer = BundleWriter(out.write, "acme", "quire.test/orgs/acme", request or Request())
    writer.begin(PAGE, b"{}")
    writer.add_checkpoint(size, b"note\n", None)
    return writer, out


def test_equal_inputs_make_equal_bytes() -> None:
    made = scene(300)
    assert made.bundle() == made.bundle()


def test_members_are_in_the_order_of_the_format() -> None:
    made = scene(1_001).stamped(lambda note: b"token", lambda note: b"another")
    names = list(members_of(made.bundle([0, 1, 1_000])))
    assert names == [
        "README.txt", "STATEMENT.txt", "verify.html", "log-keys.json",
        "checkpoints/1001.note", "checkpoints/1001.json", "checkpoints/1001.tlog-proof",
        "anchors/7.note", "anchors/7.cosignatures", "anchors/7.0.tst", "anchors/7.1.tst",
        "leaves/000000.ndjson", "payloads/000000.ndjson",
        "proofs/000000000000.tlog-proof", "proofs/000000000001.tlog-proof",
        "proofs/000000001000.tlog-proof",
        "manifest.json",
    ]  # fmt: skip


def test_batches_are_bounded_in_entries_and_bytes() -> None:
    many = list(members_of(scene(1_001).bundle()))
    assert many.index("leaves/000001.ndjson") == many.index("proofs/000000000999.tlog-proof") + 1
    request = Request(include_merkle_proofs=False)
    writer, out = started(request)
    for seq, size in enumerate((10, BATCH_BYTES // 2, BATCH_BYTES, 10)):
        writer.add_entry(seq, LEAF, None, PayloadLine(None, bytes(size), seq, "plain"))
    writer.finish()
    held = members_of(out.getvalue())
    lines = [held[members.leaves(batch)].count(b"\n") for batch in range(3)]
    assert lines == [2, 1, 1]
    assert [held[members.payloads(batch)].count(b"\n") for batch in range(3)] == lines


def test_zips_that_other_tools_read(tmp_path: Path) -> None:
    bundle = scene(40).bundle()
    path = tmp_path / "evidence.zip"
    path.write_bytes(bundle)
    with zipfile.ZipFile(path) as file:
        assert file.testzip() is None
        assert {info.compress_type for info in file.infolist()} == {zipfile.ZIP_STORED}
        assert {info.date_time for info in file.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert {oct(info.external_attr >> 16) for info in file.infolist()} == {"0o100644"}
        assert {name: file.read(name) for name in file.namelist()} == members_of(bundle)
    unzip = shutil.which("unzip")
    if unzip is not None:
        assert subprocess.run([unzip, "-tq", path], check=False).returncode == 0


def test_more_members_than_a_plain_zip_has() -> None:
    out = BytesIO()
    writer = ZipWriter(out.write)
    names = [members.proof(seq) for seq in range(65_536)]
    for name in names:
        writer.add(name, b"")
    assert writer.finish() == len(out.getvalue())
    assert [member.name for member in BundleFile(out).members] == names
    with zipfile.ZipFile(out) as file:
        assert file.namelist() == names


def test_members_beyond_four_gigabytes(tmp_path: Path) -> None:
    """Headers beyond 4 GiB, written into a sparse file."""
    offset, data = 2**32 + 5, b"beyond"
    crc = zlib.crc32(data)
    path = tmp_path / "large.zip"
    header = local_header(b"a.txt", crc, len(data))
    central = central_header(b"a.txt", crc, len(data), offset)
    with path.open("wb") as file:
        file.seek(offset)
        at = offset + file.write(header + data)
        file.write(central + end(ZipDirectory(1, len(central), at)))
    with zipfile.ZipFile(path) as opened:
        assert opened.infolist()[0].header_offset == offset
        assert opened.read("a.txt") == data
    with path.open("rb") as file, pytest.raises(EvidenceError, match="stored, plain file"):
        BundleFile(file)


def test_the_manifest_states_the_request_and_the_contents() -> None:
    request = Request(record_ids=("rec_1",), disclose=bundle_format.Disclose(("payload",), "all"))
    writer, out = started(request)
    writer.add_entry(3, LEAF, [bytes(32)], PayloadLine(None, b"", 3, "plain"))
    made = writer.finish({"ref:b": "Bo", "ref:a": "Al"})
    held = members_of(out.getvalue())
    assert decode(read_manifest, held[members.MANIFEST], "manifest") == made
    assert made.request == request
    assert made.entries == bundle_format.Entries(1, 3, 3)
    assert [member.name for member in made.members] == list(held)[:-1]
    assert held[members.NAMES] == b'{"ref:a":"Al","ref:b":"Bo"}'
    assert held[members.README] == texts.README


def test_calls_out_of_order_are_refused() -> None:
    out = BytesIO()
    writer = BundleWriter(out.write, "acme", "quire.test/orgs/acme", Request())
    line = PayloadLine(None, b"", 0, "plain")
    with pytest.raises(EvidenceError, match="right after its keys"):
        writer.add_checkpoint(1, b"note\n", None)
    with pytest.raises(EvidenceError, match="after the checkpoint"):
        writer.add_entry(0, LEAF, [], line)
    with pytest.raises(EvidenceError, match="at least one entry"):
        writer.finish()
    writer.begin(PAGE, b"{}")
    with pytest.raises(EvidenceError, match="begun already"):
        writer.begin(PAGE, b"{}")
    writer.add_checkpoint(5, b"note\n", None)
    with pytest.raises(EvidenceError, match="right after its keys"):
        writer.add_checkpoint(5, b"note\n", None)
    with pytest.raises(EvidenceError, match="5 signed entries"):
        writer.add_entry(5, LEAF, [], line)
    with pytest.raises(EvidenceError, match="when include_merkle_proofs is true"):
        writer.add_entry(2, LEAF, None, line)
    with pytest.raises(EvidenceError, match="when include_payloads is true"):
        writer.add_entry(2, LEAF, [], None)
    writer.add_entry(2, LEAF, [], line)
    for again in (1, 2):
        with pytest.raises(EvidenceError, match="can't follow"):
            writer.add_entry(again, LEAF, [], line)


def test_the_writer_has_the_same_bounds() -> None:
    anchoring = BundledAnchoring(0, 1, bytes(32), [], b"note\n", b"", [b"t"] * (TOKENS_MAX + 1))
    writer = BundleWriter(BytesIO().write, "acme", "quire.test/orgs/acme", Request())
    writer.begin(PAGE, b"{}")
    with pytest.raises(EvidenceError, match=f"at most {TOKENS_MAX}"):
        writer.add_checkpoint(1, b"note\n", anchoring)
    large = PayloadLine(None, bytes(MEMBER_BYTES_MAX), 0, "plain")
    writer, _ = started()
    writer.add_entry(0, LEAF, [], large)
    with pytest.raises(EvidenceError, match=f"the limit is {MEMBER_BYTES_MAX}"):
        writer.finish()
