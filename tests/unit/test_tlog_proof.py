"""Proof files in the form of C2SP tlog-proof."""

from base64 import b64encode
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import ProofError
from ledger.proof import MAX_PROOF_BYTES, TlogProof, parse_proof

# The standard's example, with its shortened signatures replaced by full ones.
EXAMPLE = b"""c2sp.org/tlog-proof@v1
extra YWdlLXYxLjIuMS1kYXJ3aW4tYXJtNjQudGFyLmd6
index 73894
gSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ=
B95lDa8R83lS8n0eG+o0buTxRKQTYFi//1U8anccXmA=
EKNzoDWG8LGC0Yp9o+sv3qllpMP9uHQ9B20KNL+Q1zs=
RoopEkOdqkYqMB4MJXrbt/hMjOxsVn0IrWjpz1ZMMes=
AHCioX9nLjsrse6YhjRRmk1WUEirVOLLRoOQ6vfO5vk=

example.com/fancylog
109482
sFodV/vSp5O8n9a8QpW6PRY97tfOSW5bsc2Xl/EQi08=

\xe2\x80\x94 example.com/fancylog hI2DJwAA
"""
HASH = b64encode(bytes(32))


def test_the_example_of_the_standard() -> None:
    proof = parse_proof(EXAMPLE)
    assert proof.index == 73894
    assert proof.extra == b"age-v1.2.1-darwin-arm64.tar.gz"
    assert [each.hex()[:4] for each in proof.hashes] == ["8122", "07de", "10a3", "468a", "0070"]
    assert proof.checkpoint.startswith(b"example.com/fancylog\n109482\n")
    assert proof.checkpoint.endswith(b" hI2DJwAA\n")
    assert proof.format() == EXAMPLE


@given(
    st.builds(
        TlogProof,
        st.integers(0, 2**64 - 2),
        st.lists(st.binary(min_size=32, max_size=32), max_size=64).map(tuple),
        st.binary(max_size=200).map(lambda checkpoint: checkpoint + b"\n"),
        st.none() | st.binary(min_size=1, max_size=100),
    )
)
def test_a_written_proof_is_read_back(proof: TlogProof) -> None:
    assert parse_proof(proof.format()) == proof


HEADER = b"c2sp.org/tlog-proof@v1\n"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no empty line"),
        (EXAMPLE.replace(b"@v1", b"@v2"), "begin with the line"),
        (b" " + EXAMPLE, "begin with the line"),
        (EXAMPLE.replace(b"\n", b"\r\n"), "no empty line"),
        (EXAMPLE.replace(b"index", b"Index"), 'no line "index"'),
        (EXAMPLE.replace(b"73894", b"073894"), 'no line "index"'),
        (EXAMPLE.replace(b"73894", b"-1"), 'no line "index"'),
        (EXAMPLE.replace(b"73894", b"73894 "), 'no line "index"'),
        (EXAMPLE.replace(b"73894", "٧".encode()), 'no line "index"'),
        (EXAMPLE.replace(b"73894", b"9" * 20), "beyond the largest log"),
        (EXAMPLE.replace(b"73894", b"9" * 5000), 'no line "index"'),
        (EXAMPLE.replace(b"extra YWdl", b"extra @@@@"), "extra data is not base64"),
        (HEADER + b"extra \nindex 0\n\nx\n", "leave the line out"),
        (HEADER + b"extra YQ==\nextra YQ==\nindex 0\n\nx\n", 'no line "index"'),
        (HEADER + b"index 0\nextra YQ==\n\nx\n", "hash 0 is not base64"),
        (HEADER + b"\nx\n", 'no line "index"'),
        (HEADER + b"index 0\nYQ==\n\nx\n", "hash 0 has 1 bytes"),
        (HEADER + b"index 0\n" + HASH[:-2] + b"B=\n\nx\n", "unused bits"),
        (HEADER + b"index 0\n" + HASH + b" \n\nx\n", "hash 0 is not base64"),
        (HEADER + b"index 0\n" + (HASH + b"\n") * 65 + b"\nx\n", "at most 64 hashes"),
        (HEADER + b"index 0\n" + HASH + b"\n", "no empty line"),
        (HEADER + b"index 0\n\n", "checkpoint is missing"),
        (EXAMPLE[:-1], "does not end with a newline"),
        (EXAMPLE + b"\n" * MAX_PROOF_BYTES, "at most 1048576 bytes"),
    ],
)
def test_any_other_file_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(ProofError, match=reason):
        parse_proof(data)


@pytest.mark.parametrize(
    "proof",
    [
        TlogProof(-1, (), b"\n"),
        TlogProof(2**64 - 1, (), b"\n"),
        TlogProof(0, (b"short",), b"\n"),
        TlogProof(0, (bytes(32),) * 65, b"\n"),
        TlogProof(0, (), b""),
        TlogProof(0, (), b"\n", b""),
        TlogProof(0, (), b"\n", bytes(2**16 + 1)),
        TlogProof(0, (), b"\n" * MAX_PROOF_BYTES),
    ],
)
def test_an_unreadable_proof_is_not_written(proof: TlogProof) -> None:
    with pytest.raises(ProofError):
        proof.format()


@given(st.binary(max_size=400), st.integers(0, len(EXAMPLE)), st.integers(0, len(EXAMPLE)))
def test_arbitrary_bytes_only_raise_proof_error(junk: bytes, start: int, end: int) -> None:
    for data in (junk, HEADER + junk, EXAMPLE[:start] + junk + EXAMPLE[end:]):
        with suppress(ProofError):
            assert parse_proof(data).format() == data
