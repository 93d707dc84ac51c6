"""Ledgers of a topic with four partitions, written as a daemon would have left them."""

from __future__ import annotations

from dataclasses import replace

from logflume import commit
from logflume.core import layout, ledger
from logflume.core.ledger import Blind, Closing, Head, Part
from logflume.finish import plan as plans
from logflume.finish.plan import PartitionHour
from logflume.model import HOUR_MS, MINUTE_MS, Kind, OffsetSet, PartitionId
from logflume.store import Store

#: 2026-11-22T06:00:00Z
H6 = 1_795_327_200_000
H7, H8, H9 = H6 + HOUR_MS, H6 + 2 * HOUR_MS, H6 + 3 * HOUR_MS
TOPIC_ID = "topicid0000000000000AA"


def write(store: Store, topic_id: str = TOPIC_ID, at: int = H9) -> None:
    """Hour 6 is complete, 7 incomplete, 8 closed by partition 0 only; partition 3 has no ledger."""
    commit.first_seen(store, "app", topic_id, commit.TopicSeen(4, HOUR_MS))
    for number, (watermark, frontier) in enumerate([(H9 + 15 * MINUTE_MS, H9), (H9 + 5 * MINUTE_MS, H8), (None, None)]):
        head = _begin(store, PartitionId("app", topic_id, number), at)
        if watermark is not None and frontier is not None:
            _decide(store, head, watermark, frontier, at)
    for hour, unknown in ((H6, ()), (H7, ("the ledger starts at offset 10",))):
        mark(store, topic_id, hour, unknown)


def _begin(store: Store, pid: PartitionId, at: int) -> Head:
    entry = ledger.genesis(pid, window_ms=HOUR_MS, start=10, owner="host:1:ab", at=at, config="0" * 16)
    return commit.append(store, entry)


def _decide(store: Store, head: Head, watermark: int, frontier: int, at: int) -> None:
    """An entry that closes all hours before ``frontier`` at offset 400, and one after it that closes none."""
    closing = Closing(H6, frontier, 400, "watermark", at)
    state = replace(
        head.state,
        position=500,
        committed=450,
        watermark=watermark,
        seen=watermark,
        frontier=frontier,
        first_hour=H6,
        blind=(Blind(None, H7, 10, "the ledger starts at offset 10"),),
        unfinished={frontier - HOUR_MS: 1, frontier: 2},
    )
    entry = ledger.claim(head, owner="host:1:ab", at=at, config="0" * 16)
    closed = commit.append(store, replace(entry, what="decide", state=state, closed=(closing,)))
    later = ledger.claim(closed, owner="host:1:ab", at=at, config="0" * 16)
    commit.append(store, replace(later, what="decide", state=replace(state, position=510)))


def mark(store: Store, topic_id: str, hour: int, unknown: tuple[str, ...]) -> None:
    closing = Closing(None, hour + HOUR_MS, 300, "watermark", hour)
    offsets = OffsetSet.run(100, 200)
    path = layout.part_path(
        PartitionId("app", topic_id, 0), Kind.HOUR, hour, 100, HOUR_MS, ".json.gz", early=False, append=False
    )
    part = Part(Kind.HOUR, hour, path, "tmp", 1000, 5000, 100, "00", offsets, hour, hour + 1)
    partitions = {0: PartitionHour((part,), closing, unknown), 1: PartitionHour((), closing)}
    plan = plans.make_plan("app", topic_id, hour, HOUR_MS, partitions, target_bytes=1 << 28, reveal="complete")
    store.write(f"{store.root}/{plan.directory}/{plan.marker}", plans.encode(plan))
