"""Submissions to witnesses, read and written in the form of C2SP tlog-witness."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.checkpoint import SIZE_MAX
from ledger.errors import SubmissionError
from ledger.submission import (
    PROOF_HASHES_MAX,
    SUBMISSION_BYTES_MAX,
    Submission,
    parse_submission,
)

# The example of the specification.
EXAMPLE = """\
old 20852014
PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=
jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=
5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=
/6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=

example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
""".encode()
HASH = "PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw="


def test_the_specifications_example() -> None:
    submission = parse_submission(EXAMPLE)
    assert submission.old_size == 20852014
    assert len(submission.proof) == 4
    assert submission.note.startswith(b"example.com/behind-the-sofa\n20852163\n")
    assert submission.body() == EXAMPLE


@given(
    st.integers(0, SIZE_MAX),
    st.lists(st.binary(min_size=32, max_size=32), max_size=PROOF_HASHES_MAX),
    st.binary(max_size=200),
)
def test_a_written_submission_is_read_back(old_size: int, proof: list[bytes], note: bytes) -> None:
    submission = Submission(old_size, tuple(proof), note)
    assert parse_submission(submission.body()) == submission


@pytest.mark.parametrize(
    "head",
    [
        "",
        "old",
        "old ",
        "old  1",
        "old 01",
        "old -1",
        "old +1",
        "old 1 ",
        "old 1\r",
        "old ١",
        "OLD 1",
        "new 1",
        f"old {SIZE_MAX + 1}",
        "old 99999999999999999999",
        "old 1\nAAAA",
        f"old 1\n{HASH[:-1]}",
        f"old 1\n{HASH} ",
        f"old 1\n{HASH}\r",
        # The same hash with other bits in the last character.
        f"old 1\n{HASH[:-2]}x=",
        f"old 1\n{HASH.replace('/', '_').replace('P', '-', 1)}",
        "\n".join(["old 1", *[HASH] * (PROOF_HASHES_MAX + 1)]),
    ],
)
def test_heads_that_are_refused(head: str) -> None:
    with pytest.raises(SubmissionError):
        parse_submission(f"{head}\n\nnote".encode())


def test_bounds() -> None:
    with pytest.raises(SubmissionError, match="bytes"):
        parse_submission(EXAMPLE + bytes(SUBMISSION_BYTES_MAX))
    with pytest.raises(SubmissionError, match="blank line"):
        parse_submission(b"old 1\n" * 1_000)


@given(st.binary(max_size=300))
def test_arbitrary_bytes_raise_nothing_else(data: bytes) -> None:
    for body in (data, b"old 1\n" + data, b"old 0\n\n" + data):
        with contextlib.suppress(SubmissionError):
            assert parse_submission(body).body() == body
