"""``--other-root``: offsets of one hour that are in two trees. A reader of both would count them twice."""

from __future__ import annotations

from collections.abc import Iterator

from logflume import commit
from logflume.core import layout
from logflume.errors import LogflumeError
from logflume.log import get
from logflume.model import Kind, OffsetSet, PartitionId
from logflume.reconcile.findings import Finding, What
from logflume.store.base import Store

log = get(__name__)


def duplicates(store: Store, other: Store, topic: str, topic_id: str) -> list[Finding]:
    """Hours that both roots have offsets of, by what is left of their ledgers. Reads both whole, once."""
    found = []
    there = {pid.partition for pid in commit.chains(other, topic, topic_id)}
    for pid in commit.chains(store, topic, topic_id):
        if pid.partition not in there:
            continue
        ours, theirs = _hours(store, pid), _hours(other, pid)
        for hour in sorted(ours.keys() & theirs.keys()):
            both = ours[hour][0] & theirs[hour][0]
            if both:
                window_ms = ours[hour][1]
                detail = f"{len(both)} offsets, {both.first} to {both.last}, are below {other.url}, too"
                path, name = layout.hour_path(topic, hour, window_ms), layout.hour_name(hour, window_ms)
                found.append(Finding(What.HOUR_DUPLICATE, topic, path, detail, topic_id, pid.partition, name))
    return found


def _hours(store: Store, pid: PartitionId) -> dict[int, tuple[OffsetSet, int]]:
    """Hour → the offsets decided for it, and the window."""
    hours: dict[int, tuple[OffsetSet, int]] = {}
    for seq in _numbers(store, pid):
        try:
            entry = commit.read_entry(store, pid, seq).entry
        except LogflumeError as error:
            # trimmed just now, or damaged: the check of its own root says so
            log.debug("entry left out", root=store.url, partition=str(pid), seq=seq, error=str(error))
            continue
        for part in entry.parts:
            if part.kind is Kind.HOUR:
                known = hours.get(part.hour, (OffsetSet(), 0))[0]
                hours[part.hour] = (known | part.offsets, entry.state.window_ms)
    return hours


def _numbers(store: Store, pid: PartitionId) -> Iterator[int]:
    for status in store.list(f"{store.root}/{layout.chain_directory(pid)}"):
        seq = layout.parse_entry_name(status.name)
        if seq is not None:
            yield seq
