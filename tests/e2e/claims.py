"""What logflume says it did, read from its files by their documented form: ledger entries and markers.

The checker's account (checker.py) does not need these; they are compared with it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from pyroaring import BitMap64

from tests.e2e.oracle import Key
from tests.e2e.tree import Tree, files


@dataclass(frozen=True)
class Piece:
    """A part as an entry or a manifest describes it; ``path`` is where it was before merging."""

    kind: str
    hour: int
    path: str
    tmp: str
    size: int
    count: int
    sha256: str
    partition: int
    offsets: tuple[int, ...]


def piece(body: dict[str, Any], partition: int) -> Piece:
    return Piece(
        kind=body["kind"],
        hour=body["hour"],
        path=body["path"],
        tmp=body["tmp"],
        size=body["bytes"],
        count=body["count"],
        sha256=body["sha256"],
        partition=partition,
        offsets=offsets(body["offsets"]),
    )


def offsets(text: str) -> tuple[int, ...]:
    return tuple(BitMap64.deserialize(base64.b64decode(text))) if text else ()


@dataclass
class Ledger:
    """One partition's chain. ``fates`` has every offset that was decided, as often as it was."""

    partition: int
    topic_id: str
    entries: int = 0
    start: int = 0
    committed: int = 0
    frontier: int | None = None
    pieces: list[Piece] = field(default_factory=list)
    closings: list[tuple[int | None, int, int, str]] = field(default_factory=list)
    fates: dict[int, list[str]] = field(default_factory=dict)
    owners: list[str] = field(default_factory=list)

    def closing(self, end: int) -> tuple[int, str] | None:
        """Boundary and reason for the hour that ends at ``end``."""
        for since, until, boundary, reason in self.closings:
            if end <= until and (since is None or end > since):
                return boundary, reason
        return None

    def give(self, numbers: tuple[int, ...], fate: str) -> None:
        for offset in numbers:
            self.fates.setdefault(offset, []).append(fate)


@dataclass
class Ledgers:
    """All of a topic id, with what is wrong with them in itself, and what lies beside the entries."""

    chains: dict[int, Ledger]
    problems: list[str]
    tmp: list[str]
    plans: list[str]


def read_ledgers(tree: Tree, topic: str, topic_id: str, pool: ThreadPoolExecutor) -> Ledgers:
    """Read and check every chain: numbers without holes, hashes, each offset once, none passed over."""
    top = f"_logflume/{topic}/{topic_id}"
    found = files(tree, top, pool)
    entries: dict[int, dict[int, str]] = {}
    ledgers = Ledgers({}, [], [], [])
    for node in found:
        entry = re.fullmatch(rf"{re.escape(top)}/p(\d+)/(\d{{12}})\.json", node.path)
        if entry:
            entries.setdefault(int(entry[1]), {})[int(entry[2])] = node.path
        elif "/tmp/" in node.path:
            ledgers.tmp.append(node.path)
        elif "/plans/" in node.path:
            ledgers.plans.append(node.path)
    for partition, paths in sorted(entries.items()):
        ledger = ledgers.chains[partition] = Ledger(partition, topic_id)
        if sorted(paths) != list(range(len(paths))):
            ledgers.problems.append(f"p{partition}: entries {sorted(paths)}")
        data = list(pool.map(tree.read, [paths[number] for number in sorted(paths)]))
        _follow(ledger, data, ledgers.problems)
    return ledgers


def _follow(ledger: Ledger, entries: list[bytes], problems: list[str]) -> None:
    before = ""
    for number, data in enumerate(entries):
        body = json.loads(data)
        where = f"p{ledger.partition} entry {number}"
        if body["prev"] != before or body["seq"] != number:
            problems.append(f"{where} does not link to the one before")
        before = hashlib.sha256(data).hexdigest()
        state = body["state"]
        if number == 0:
            ledger.start = state["start"]
        for part in body["parts"]:
            one = piece(part, ledger.partition)
            ledger.pieces.append(one)
            ledger.give(one.offsets, one.path)
        ledger.give(offsets(body["gaps"]), "gap")
        ledger.give(offsets(body["dropped"]), "dropped")
        ledger.closings += [(since, until, at, why) for since, until, at, why, _ in body["closed"]]
        if state["committed"] < ledger.committed:
            problems.append(f"{where}: C goes back")
        ledger.committed, ledger.frontier = state["committed"], state["frontier"]
        missing = [o for o in range(ledger.start, ledger.committed) if o not in ledger.fates]
        if missing:
            problems.append(f"{where}: C = {ledger.committed} passes undecided {missing[:5]}")
        if body["owner"] not in ledger.owners:
            ledger.owners.append(body["owner"])
    problems += [
        f"p{ledger.partition}: offset {offset} has {len(fates)} fates: {fates}"
        for offset, fates in ledger.fates.items()
        if len(fates) > 1
    ][:10]


@dataclass(frozen=True)
class Marker:
    """``_SUCCESS`` or ``_INCOMPLETE``: the file's name and what it says."""

    name: str
    start: int
    complete: bool
    files: dict[str, tuple[int, int, tuple[Piece, ...]]]  # name -> bytes, count, segments
    boundaries: dict[int, tuple[int, str]]

    @property
    def segments(self) -> list[Piece]:
        return [segment for _, _, segments in self.files.values() for segment in segments]


def marker(name: str, data: bytes) -> Marker:
    body = json.loads(data)
    return Marker(
        name=name,
        start=body["start_ms"],
        complete=body["complete"],
        files={
            file["name"]: (
                file["bytes"],
                file["count"],
                tuple(piece(segment, segment["partition"]) for segment in file["segments"]),
            )
            for file in body["files"]
        },
        boundaries={int(p): (one["boundary"], one["reason"]) for p, one in body["partitions"].items()},
    )


def reference(record: Key) -> str:
    return f"p{record[0]}:{record[1]}"
