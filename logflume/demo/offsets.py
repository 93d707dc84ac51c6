"""The two offsets of each partition, as its ledger has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from logflume import commit
from logflume.core import layout
from logflume.core.ledger import Entry
from logflume.demo.records import HOUR_MS
from logflume.model import PartitionId
from logflume.store.local import LocalStore


@dataclass(frozen=True, slots=True)
class Closed:
    """How a partition closed an hour: B, the C that the same entry has, and ``watermark`` or ``idle``."""

    boundary: int
    committed: int
    reason: str


@dataclass(frozen=True, slots=True)
class Ledger:
    """What the chain of one partition says. ``claims`` has C at each claim: where that owner began to read."""

    partition: int
    entries: int
    position: int
    committed: int
    claims: tuple[int, ...]
    closed: Mapping[int, Closed]


def read(root: Path, topic: str, hours: list[int]) -> list[Ledger]:
    """All chains of a topic in order of partition. Raises LedgerError, Missing."""
    store = LocalStore(str(root))
    ids = sorted(path.name for path in (root / layout.LEDGER_ROOT / topic).iterdir())
    found = []
    for pid in (pid for topic_id in ids for pid in commit.chains(store, topic, topic_id)):
        entries = list(_entries(store, pid))
        last = entries[-1].state
        closed = {
            hour: Closed(closing.boundary, entry.state.committed, closing.reason)
            for hour in hours
            for entry in entries
            for closing in entry.closed
            if closing.covers(hour + HOUR_MS)
        }
        claims = tuple(entry.state.committed for entry in entries if entry.what == "claim")
        found.append(Ledger(pid.partition, len(entries), last.position, last.committed, claims, closed))
    return found


def _entries(store: LocalStore, pid: PartitionId) -> Iterator[Entry]:
    head = commit.read_entry(store, pid, 0)
    yield head.entry
    while (after := commit.next_entry(store, head)) is not None:
        head = after
        yield head.entry
