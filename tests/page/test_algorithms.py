"""The page's own algorithms: BLAKE3, CRC-32, and its strict parsers."""

from __future__ import annotations

import base64
import json
import random
import zlib
from pathlib import Path

import pytest
from blake3 import blake3

from tests.support.offline_page import OfflinePage

pytestmark = pytest.mark.xdist_group("browser")
VECTORS = json.loads(
    (Path(__file__).parents[1] / "vectors" / "blake3" / "test_vectors.json").read_bytes()
)
DIGEST = """
const bytes = Uint8Array.from(atob(arguments[0]), char => char.charCodeAt(0));
const run = { breathed: 0, current: () => true };
return [await blake3(bytes, run), crc32(bytes)];
"""


def test_blake3_agrees_with_the_published_vectors(offline_page: OfflinePage) -> None:
    lengths = [case["input_len"] for case in VECTORS["cases"]]
    assert len(lengths) == 35
    digests = offline_page.window.run(
        "const run = { breathed: 0, current: () => true };"
        "return Promise.all(arguments[0].map(length =>"
        "  blake3(Uint8Array.from({ length }, (_, at) => at % 251), run)))",
        lengths,
    )
    assert digests == [case["hash"][:64] for case in VECTORS["cases"]]


@pytest.mark.parametrize("length", [63, 64, 65, 1 << 20, (1 << 20) + 1, 3_000_001, 5 << 20])
def test_digests_of_inputs_around_every_block_border(
    offline_page: OfflinePage, length: int
) -> None:
    data = random.Random(length).randbytes(length)
    digest, crc = offline_page.window.run(DIGEST, base64.b64encode(data).decode())
    assert (digest, crc) == (blake3(data).hexdigest(), zlib.crc32(data))


def refusal(page: OfflinePage, expression: str, *arguments: object) -> str | None:
    """The error that an expression throws, None if it throws none."""
    error: str | None = page.window.run(
        f"try {{ await ({expression}); return null; }} catch (error) {{ return error.message; }}",
        *arguments,
    )
    return error


@pytest.mark.parametrize("text", ["", "AA==", "AAA=", "AAAA", "+/+/"])
def test_canonical_base64(offline_page: OfflinePage, text: str) -> None:
    assert refusal(offline_page, "base64(arguments[0], 'it')", text) is None


@pytest.mark.parametrize("text", ["AA", "AB==", "AAA", " AA==", "AA==\n", "A-_A", "====", "é"])
def test_base64_in_another_spelling(offline_page: OfflinePage, text: str) -> None:
    error = refusal(offline_page, "base64(arguments[0], 'it')", text)
    assert error is not None
    assert "base64" in error


@pytest.mark.parametrize("text", ['{"a":"\\ud800"}', '{"a":1,"a":1}', '{"a":1.0}', '{"a":-0}', '{ "a":1}',
    '{"a":"\\u0041"}', '{"a":"\\/"}', '{"a":1e0}', '\ufeff{"a":1}', '{"a":1}\n'])  # fmt: skip
def test_json_in_another_spelling(offline_page: OfflinePage, text: str) -> None:
    script = "readCanonical(utf8(arguments[0]), value => true, 'it')"
    assert refusal(offline_page, script, text) is not None


@pytest.mark.parametrize(
    "value", [{"a": "\u2028\U0001f600\x7f\\ud800"}, {"a": '"\\\n\x1f'}, [1, None]]
)
def test_json_in_its_canonical_form(offline_page: OfflinePage, value: object) -> None:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    script = "readCanonical(utf8(arguments[0]), value => true, 'it')"
    assert refusal(offline_page, script, text) is None
