"""An org with a signed and anchored trail on a server, and bundles requested from it."""

from __future__ import annotations

import json
import zipfile
from io import BytesIO
from typing import Any, NamedTuple

from ledger.entry import decode_leaf
from ledger.evidence.trust import Trust
from ledger.evidence.verdict import Judgement
from ledger.evidence.verification import verify_bundle
from tests.support.serving import PeerAnswer, Server
from tests.support.signed_trees import KEYS, SignedTrees

PERSONS = ("ann@example.com", "bob@example.com", "cyd@example.com")
ANN, BOB, CYD = PERSONS
COUNT = 620


class Office(NamedTuple):
    """An org with a signed and anchored trail, its key, and requests for bundles."""

    server: Server
    trees: SignedTrees
    org: str
    key: str
    records: list[str]

    def append(self, events: list[dict[str, Any]]) -> list[str]:
        path = f"/v1/orgs/{self.org}/entries"
        made = self.server.request("POST", path, events, key=self.key)
        assert made.status == 201, made.body
        return [entry["record_id"] for entry in made.json()["entries"]]

    def request_bundle(self, key: str | None = None, **asked: Any) -> PeerAnswer:
        path = f"/v1/orgs/{self.org}/bundles"
        return self.server.request("POST", path, asked, key=key or self.key)

    def bundle(self, key: str | None = None, **asked: Any) -> Bundle:
        answer = self.request_bundle(key, **asked)
        assert answer.status == 200, answer.body
        assert answer.headers["content-type"] == "application/zip"
        return Bundle(answer)


class Bundle:
    """A bundle read by Python's zip reader instead of ours."""

    def __init__(self, answer: PeerAnswer) -> None:
        self.bytes, self.headers = answer.body, answer.headers
        self.zip = zipfile.ZipFile(BytesIO(answer.body))
        self.manifest = json.loads(self.zip.read("manifest.json"))

    def verdict(self) -> Judgement:
        return verify_bundle(BytesIO(self.bytes), Trust(pins=KEYS.public().pins()))

    def lines(self, folder: str) -> list[bytes]:
        names = [name for name in self.zip.namelist() if name.startswith(folder)]
        return b"".join(map(self.zip.read, names)).splitlines()

    def seqs(self) -> list[int]:
        return [decode_leaf(line).seq for line in self.lines("leaves/")]

    def payloads(self) -> dict[int, Any]:
        return {line["seq"]: line for line in map(json.loads, self.lines("payloads/"))}

    def names(self) -> Any:
        return json.loads(self.zip.read("names.json"))


def office(server: Server, privacy: str = "sealed", count: int = COUNT) -> Office:
    org, key = server.create_org(privacy)
    made = Office(server, SignedTrees(server), org, key, [])
    made.records.extend(made.append([event(number) for number in range(count)]))
    made.trees.sign()
    made.trees.anchor()
    return made


def event(number: int) -> dict[str, Any]:
    return {
        "event_type": f"case.{number % 2}",
        "actor": "clerk",
        "subject": PERSONS[number % 3],
        "number": number,
    }
