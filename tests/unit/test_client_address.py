"""The address of a client: forged header chains never move it, whatever a client sends."""

from __future__ import annotations

import random
import socket
from ipaddress import ip_address, ip_network

import pytest

from server.addresses import address, client, contains, network, networks
from server.http.protocol.address import (
    FORWARDED,
    MAX_HOPS,
    X_FORWARDED_FOR,
    ProxyRules,
    client_address,
    peer_of,
)

TRUSTED = "10.0.0.0/8, 192.168.7.0/24,127.0.0.1,fd00::/8, ::ffff:172.16.0.0/108"
RULES = ProxyRules(networks(TRUSTED))
BY_RFC_7239 = RULES._replace(header=FORWARDED)
PEER = peer_of("10.1.2.3", RULES)
CHAINS = 10_000


def seen(*lines: str, rules: ProxyRules = RULES, peer: str = "10.1.2.3") -> str:
    headers = [(rules.header, line.encode("latin-1")) for line in lines]
    return str(client_address(peer_of(peer, rules), headers, rules))


@pytest.mark.parametrize(("chain", "found"), [
    ("203.0.113.9", "203.0.113.9"),
    ("6.6.6.6, 203.0.113.9", "203.0.113.9"),
    ("6.6.6.6, 203.0.113.9, 10.4.4.4,192.168.7.1", "203.0.113.9"),
    ("203.0.113.9:443", "203.0.113.9"),
    ("[2001:db8::9]:443, 10.0.0.1:1", "2001:db8::9"),
    ("[2001:db8::9]", "2001:db8::9"),
    ("2001:db8::9", "2001:db8::9"),
    ("2001:DB8:0::9, fd12::1", "2001:db8::9"),
    ("::ffff:203.0.113.9", "203.0.113.9"),
    ("6.6.6.6, ::ffff:10.9.9.9, ::ffff:0a09:0909", "6.6.6.6"),
    ("203.0.113.9, 172.31.0.1", "203.0.113.9"),
    (" ,\t, 203.0.113.9 ,,", "203.0.113.9"),
    # Nobody who is not trusted is named, or a hop can't be read: the peer.
    ("", "10.1.2.3"),
    (" , ,", "10.1.2.3"),
    ("10.0.0.1, 10.0.0.2", "10.1.2.3"),
    ("6.6.6.6, unknown", "10.1.2.3"),
    ("6.6.6.6, _hidden, 10.0.0.2", "10.1.2.3"),
    ("6.6.6.6, 203.0.113.9:", "10.1.2.3"),
    ("6.6.6.6, 203.0.113.9:65536", "10.1.2.3"),
    ("6.6.6.6, 203.0.113.9:http", "10.1.2.3"),
    ("6.6.6.6, 203.0.113.09", "10.1.2.3"),
    ("6.6.6.6, 203.0.113", "10.1.2.3"),
    ("6.6.6.6, 0x7f000001", "10.1.2.3"),
    ("6.6.6.6, fe80::1%eth0", "10.1.2.3"),
    ("6.6.6.6, [203.0.113.9]", "10.1.2.3"),
    ("6.6.6.6, [2001:db8::9", "10.1.2.3"),
    ("6.6.6.6, 2001:db8::9]:80", "10.1.2.3"),
    ("6.6.6.6, [2001:db8::9]80", "10.1.2.3"),
    ('6.6.6.6, "203.0.113.9"', "10.1.2.3"),
    ("6.6.6.6, 203.0.113.9 10.0.0.1", "10.1.2.3"),
    ("6.6.6.6, 203.0.113.9\xa0", "10.1.2.3"),
    ("6.6.6.6, 203.0.113.9/32", "10.1.2.3"),
    ("6.6.6.6, for=203.0.113.9", "10.1.2.3"),
])  # fmt: skip
def test_hops_are_walked_from_the_right_to_the_first_that_is_not_trusted(
    chain: str, found: str
) -> None:
    assert seen(chain) == found


@pytest.mark.parametrize(("chain", "found"), [
    ("for=203.0.113.9", "203.0.113.9"),
    ("For=203.0.113.9;proto=http;by=10.0.0.1", "203.0.113.9"),
    ("by=10.0.0.1 ; FOR=203.0.113.9;", "203.0.113.9"),
    ('for="203.0.113.9:8080"', "203.0.113.9"),
    ('for="[2001:db8::9]:8080", for=10.0.0.1', "2001:db8::9"),
    ('for="[2001:db8::9]:_port"', "2001:db8::9"),
    ('for="[::ffff:203.0.113.9]"', "203.0.113.9"),
    (r'for="203\.0.113\.9"', "203.0.113.9"),
    ("for=6.6.6.6, for=203.0.113.9, for=192.168.7.4", "203.0.113.9"),
    ('for=203.0.113.9;host="a, for=6.6.6.6", for=10.0.0.1', "203.0.113.9"),
    (r'for=203.0.113.9;host="a\", for=6.6.6.6;x=\"", for=10.0.0.1', "203.0.113.9"),
    # A quote that a client leaves open ends nowhere in what the proxy appends.
    ('for="6.6.6.6, for=203.0.113.9', "203.0.113.9"),
    ('for=6.6.6.6;x=", for="[2001:db8::9]"', "2001:db8::9"),
    ('for=6.6.6.6;x="\\, for="[2001:db8::9]"', "2001:db8::9"),
    ("for=6.6.6.6, for=unknown", "10.1.2.3"),
    ("for=6.6.6.6, for=_SEVKISEK", "10.1.2.3"),
    ('for=6.6.6.6, for="_x:_y"', "10.1.2.3"),
    ("for=6.6.6.6, proto=https", "10.1.2.3"),
    ("for=6.6.6.6, for=203.0.113.9;for=6.6.6.6", "10.1.2.3"),
    ("for=6.6.6.6, for=203.0.113.9:80", "10.1.2.3"),
    ("for=6.6.6.6, for=2001:db8::9", "10.1.2.3"),
    ('for=6.6.6.6, for="2001:db8::9"', "10.1.2.3"),
    ("for=6.6.6.6, for", "10.1.2.3"),
    ("for=6.6.6.6, for =203.0.113.9", "10.1.2.3"),
    ("for=6.6.6.6, 203.0.113.9", "10.1.2.3"),
    ('for=6.6.6.6, for="203.0.113.9', "10.1.2.3"),
    ('for=6.6.6.6, for="203.0.113.9"x', "10.1.2.3"),
    ("for=6.6.6.6, for=203.0.113.9;" + "x=y;" * 400, "10.1.2.3"),
])  # fmt: skip
def test_forwarded_is_walked_by_the_same_rule(chain: str, found: str) -> None:
    assert seen(chain, rules=BY_RFC_7239) == found


def test_only_a_trusted_peer_is_believed() -> None:
    assert seen("203.0.113.9", peer="203.0.113.77") == "203.0.113.77"
    assert seen("203.0.113.9", peer="::ffff:10.0.0.4") == "203.0.113.9"
    assert seen("203.0.113.9", peer="fd00::7%eth0") == "203.0.113.9"
    assert seen("203.0.113.9", rules=ProxyRules()) == "10.1.2.3"
    assert str(peer_of(None, RULES).address) == "0.0.0.0"


def test_only_the_configured_header_is_read() -> None:
    others = [
        (name, b"6.6.6.6")
        for name in (b"x-real-ip", b"x-client-ip", b"true-client-ip", b"x_forwarded_for", b"via")
    ]
    for rules, other in ((RULES, FORWARDED), (BY_RFC_7239, X_FORWARDED_FOR)):
        headers = [*others, (other, b"for=6.6.6.6"), (other, b"6.6.6.6")]
        assert client_address(PEER, headers, rules) == PEER.address


def test_several_lines_are_one_list() -> None:
    assert seen("6.6.6.6", "203.0.113.9, 10.0.0.1", "", "10.0.0.2") == "203.0.113.9"
    assert seen("203.0.113.9,", ",10.0.0.2") == "203.0.113.9"
    lines = ("for=203.0.113.9", 'for="10.0.0.1"', "for=10.0.0.2")
    assert seen('for="6.6.6.6', *lines, rules=BY_RFC_7239) == "203.0.113.9"


def test_a_long_chain_ends_at_the_peer_and_costs_little() -> None:
    assert seen("203.0.113.9" + ",10.0.0.1" * (MAX_HOPS - 1)) == "203.0.113.9"
    assert seen("203.0.113.9" + ",10.0.0.1" * MAX_HOPS) == "10.1.2.3"
    for hostile in ("," * 65_000, "10.0.0.1," * 7_000, '"' * 65_000, "\\" * 65_000, '\\"' * 32_000):
        for rules in (RULES, BY_RFC_7239):
            assert seen(hostile, rules=rules) == "10.1.2.3"
    assert seen(*[""] * 20_000, rules=BY_RFC_7239) == "10.1.2.3"


def test_addresses_are_counted_by_their_group() -> None:
    assert client(address("203.0.113.9")).group == "203.0.113.9"
    assert client(address("::ffff:203.0.113.9")).group == "203.0.113.9"
    one, other = client(address("2001:db8:1:2::9")), client(address("2001:db8:1:2:ffff::"))
    assert one.group == other.group == "2001:db8:1:2::/64"
    assert str(one) == "2001:db8:1:2::9"
    assert client(address("2001:db8:1:3::9")).group != one.group


def test_ranges_are_compared_in_one_form() -> None:
    assert client(address("::ffff:10.2.3.4")).is_in(networks("10.0.0.0/8"))
    assert client(address("10.2.3.4")).is_in([network("::ffff:10.0.0.0/104")])
    assert not client(address("2001:db8::1")).is_in(networks("10.0.0.0/8,2001:db9::/32"))
    assert networks(" , ") == ()


@pytest.mark.parametrize(
    "text", ["10.0.0.1/8", "example.com", "10.0.0.0/33", "10.0.0.0/8;10.1.0.0/16", "fe80::1%1"]
)
def test_a_range_that_can_t_be_read_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="is not an IP address or CIDR range"):
        networks(f"127.0.0.1,{text}")


# The independent walk: sockets parse the addresses, masks compare them, and the list is split by
# hand, so that it shares no line with the server's.

MASKS = [
    (socket.AF_INET, bytes([10, 0, 0, 0]), 8),
    (socket.AF_INET, bytes([192, 168, 7, 0]), 24),
    (socket.AF_INET, bytes([127, 0, 0, 1]), 32),
    (socket.AF_INET, bytes([172, 16, 0, 0]), 12),
    (socket.AF_INET6, bytes([0xFD]) + bytes(15), 8),
]


def packed(text: str) -> tuple[int, bytes] | None:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            found = socket.inet_pton(family, text)
        except (OSError, ValueError):
            continue
        if len(found) == 16 and found[:12] == bytes(10) + b"\xff\xff":
            return socket.AF_INET, found[12:]
        return int(family), found
    return None


def is_trusted(found: tuple[int, bytes]) -> bool:
    def bits(data: bytes) -> str:
        return "".join(f"{byte:08b}" for byte in data)

    return any(
        found[0] == family and bits(found[1])[:length] == bits(base)[:length]
        for family, base, length in MASKS
    )


def hop_of(text: str) -> tuple[int, bytes] | None:
    host, port = text, "0"
    if text.startswith("["):
        host, closed, rest = text[1:].partition("]")
        if not closed or ":" not in host or (rest and not rest.startswith(":")):
            return None
        port = rest[1:] if rest else "0"
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    digits = set(port) <= set("0123456789") and 1 <= len(port) <= 5
    return packed(host) if digits and int(port) <= 65_535 else None


def walked(lines: list[str]) -> str:
    for part in ",".join(lines).split(",")[::-1]:
        text = part.strip(" \t")
        if not text:
            continue
        found = hop_of(text)
        if found is None:
            return "10.1.2.3"
        if not is_trusted(found):
            return str(ip_address(socket.inet_ntop(found[0], found[1])))
    return "10.1.2.3"


def random_address(chosen: random.Random, *, trusted: bool) -> str:
    if trusted:
        return chosen.choice(
            [
                f"10.{chosen.randrange(256)}.0.{chosen.randrange(256)}",
                f"192.168.7.{chosen.randrange(256)}",
                "127.0.0.1",
                f"fd{chosen.randrange(256):02x}::{chosen.randrange(65_536):x}",
                f"::ffff:172.{chosen.randrange(16, 32)}.3.4",
            ]
        )
    while True:
        number = chosen.getrandbits(chosen.choice([32, 128]))
        text = str(ip_address(number))
        found = packed(text)
        if found is not None and not is_trusted(found):
            return text


def dressed(chosen: random.Random, text: str) -> str:
    """The address in one of the forms that proxies write."""
    port = chosen.randrange(1, 65_536)
    if ":" in text:
        return chosen.choice([text, text.upper(), f"[{text}]", f"[{text}]:{port}"])
    return chosen.choice([text, f"{text}:{port}", f"::ffff:{text}", f"[::ffff:{text}]:{port}"])


def junk(chosen: random.Random) -> str:
    return chosen.choice(
        [
            "", " ", "unknown", "_hidden", "localhost", "1.2.3", "1.2.3.4.5", "256.1.1.1", "01.2.3.4",
            "[::1", "::1]", "fe80::1%0", "1.2.3.4:", "1.2.3.4:99999", '"', '"6.6.6.6"', "for=6.6.6.6",
            "\\", "1.2.3.4 5.6.7.8", "http://6.6.6.6/", "127.1", "2130706433", "::ffff:1.2.3", "\xff",
            "".join(chr(chosen.randrange(33, 127)) for _ in range(chosen.randrange(1, 30))),
        ]
    )  # fmt: skip


def forged(chosen: random.Random) -> list[str]:
    """Hops that a client makes up."""
    return [
        chosen.choice(
            [
                dressed(chosen, random_address(chosen, trusted=chosen.random() < 0.5)),
                junk(chosen),
            ]
        )
        for _ in range(chosen.randrange(12))
    ]


def in_lines(chosen: random.Random, hops: list[str]) -> list[str]:
    """The hops as one list, cut into header lines anywhere between two of them."""
    lines: list[list[str]] = [[]]
    for hop in hops:
        if chosen.random() < 0.2:
            lines.append([])
        lines[-1].append(chosen.choice(["", " ", "\t"]) + hop + chosen.choice(["", " "]))
    return [",".join(line) for line in lines]


def test_no_forged_chain_moves_the_address() -> None:
    chosen = random.Random("forged chains")
    for _ in range(CHAINS):
        real = random_address(chosen, trusted=False)
        proxies = [
            dressed(chosen, random_address(chosen, trusted=True))
            for _ in range(chosen.randrange(4))
        ]
        lines = in_lines(chosen, [*forged(chosen), dressed(chosen, real), *proxies])
        assert seen(*lines) == str(address(real)), lines


def test_any_chain_is_walked_like_by_the_independent_walk() -> None:
    chosen = random.Random("any chains")
    found = set()
    for _ in range(CHAINS):
        lines = in_lines(chosen, forged(chosen))
        expected = walked(lines)
        assert seen(*lines) == str(ip_address(expected)), lines
        found.add(expected)
    assert len(found) > CHAINS / 10
    assert "10.1.2.3" in found


def test_no_forged_forwarded_element_moves_the_address() -> None:
    chosen = random.Random("forged elements")
    for _ in range(CHAINS):
        real = random_address(chosen, trusted=False)
        forgery = ",".join(
            chosen.choice(["for=", 'for="', "", 'x="', 'by=";']) + hop for hop in forged(chosen)
        )
        appended = f'for="[{real}]"' if ":" in real else f"for={real}"
        proxies = [
            f'for="10.0.0.{chosen.randrange(256)}:80";proto=http'
            for _ in range(chosen.randrange(3))
        ]
        joined = ", ".join([appended, *proxies])
        lines = [forgery, joined] if chosen.random() < 0.5 else [f"{forgery}, {joined}"]
        assert seen(*lines, rules=BY_RFC_7239) == str(address(real)), lines


def test_the_masks_of_the_independent_walk_are_those_of_the_rules() -> None:
    for family, base, length in MASKS:
        text = socket.inet_ntop(family, base)
        assert any(found == ip_network(f"{text}/{length}") for found in RULES.trusted), text
        assert contains(RULES.trusted, ip_address(text))
