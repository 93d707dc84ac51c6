"""What the ledger knows of late and quarantined files: by which parts they were decided."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from concurrent.futures import Executor

from logflume import commit
from logflume.core import layout
from logflume.core.ledger import Part
from logflume.errors import Missing
from logflume.model import Kind, PartitionId
from logflume.store.base import Store


def parts_of(store: Store, topic: str, topic_id: str, paths: Iterable[str], pool: Executor) -> dict[str, Part]:
    """Path → part, for those of ``paths`` (relative to the root, without an underscore that hides) that a retained
    entry decided, except a chain's newest entry: whoever claims the partition still publishes that one's.

    Of a chain only the entries are read that may have decided one of them: C and position of an entry bound the
    offsets, and both only grow.
    """
    wanted: dict[int, dict[str, int]] = {}
    for path in paths:
        name = layout.parse_part_name(path.rsplit("/", 1)[1])
        if name is not None:
            wanted.setdefault(name.partition, {})[path] = name.first
    known = [pid for pid in commit.chains(store, topic, topic_id) if pid.partition in wanted]
    found: dict[str, Part] = {}
    for parts in pool.map(lambda pid: _of_chain(store, pid, wanted[pid.partition]), known):
        found |= parts
    return found


def _of_chain(store: Store, pid: PartitionId, wanted: dict[str, int]) -> dict[str, Part]:
    names = [
        layout.parse_entry_name(status.name) for status in store.list(f"{store.root}/{layout.chain_directory(pid)}")
    ]
    numbers = sorted(number for number in names if number is not None)[:-1]
    low, high = min(wanted.values()), max(wanted.values())
    found: dict[str, Part] = {}
    begin = bisect_left(numbers, True, key=lambda seq: _position(store, pid, seq) > low)
    for seq in numbers[begin:]:
        try:
            entry = commit.read_entry(store, pid, seq).entry
        except Missing:
            continue  # dropped by retention just now
        for part in entry.parts:
            path = _shown(part)
            if part.kind is not Kind.HOUR and path in wanted:
                found[path] = part
        if entry.state.committed > high:
            break
    return found


def _position(store: Store, pid: PartitionId, seq: int) -> int:
    try:
        return commit.read_entry(store, pid, seq).entry.state.position
    except Missing:
        return -1


def _shown(part: Part) -> str:
    directory, name = part.path.rsplit("/", 1)
    return f"{directory}/{name.removeprefix('_')}"
