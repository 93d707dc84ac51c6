"""A large tree in little time: real words of ledger and plans, but plain writes without fsync."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from logflume.core import codec, layout, ledger
from logflume.core.ledger import Closing, Entry, Head, Part, State
from logflume.finish import plan as plans
from logflume.finish.plan import PartitionHour, make_plan
from logflume.model import HOUR_MS, Kind, OffsetSet, PartitionId
from logflume.spool.encoders import encoder

LATENESS_MS = 60_000


def write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def make(
    root: Path, *, topic: str, topic_id: str, first_hour: int, partitions: int, hours: int, rolls: int, target: int
) -> None:
    """``hours`` finished hours, each with ``rolls`` decisions of ten records for every partition."""
    write(root / layout.topic_path(topic, topic_id), json.dumps({"partitions": partitions}).encode())
    found: dict[int, dict[int, PartitionHour]] = {first_hour + n * HOUR_MS: {} for n in range(hours)}
    bytes_of: dict[str, bytes] = {}
    for number in range(partitions):
        pid = PartitionId(topic, topic_id, number)
        for hour, one in chain(root, pid, first_hour, hours, rolls, bytes_of):
            found[hour][number] = one
    for hour, ones in found.items():
        plan = make_plan(topic, topic_id, hour, HOUR_MS, ones, target_bytes=target, reveal="complete")
        for file in plan.files:
            write(root / plan.directory / file.name, b"".join(bytes_of[part.path] for part in file.parts))
        write(root / plan.directory / plan.marker, plans.encode(plan))


def chain(
    root: Path, pid: PartitionId, first_hour: int, hours: int, rolls: int, bytes_of: dict[str, bytes]
) -> Iterator[tuple[int, PartitionHour]]:
    """One partition's entries; yields what each hour has of it."""
    head = put(root, ledger.genesis(pid, window_ms=HOUR_MS, start=0, owner="bulk", at=first_hour, config="bulk"))
    for n in range(hours):
        hour = first_hour + n * HOUR_MS
        parts = []
        for roll in range(rolls):
            part = part_of(pid, hour, head.state.committed, roll, rolls)
            bytes_of[part.path] = lines_of(part)
            parts.append(part)
            closed = closing(head.state, hour, part) if roll == rolls - 1 else ()
            head = put(root, decided(head, part, closed, n))
        yield hour, PartitionHour(tuple(parts), closed[0])


def closing(state: State, hour: int, part: Part) -> tuple[Closing, ...]:
    end = hour + HOUR_MS
    return (Closing(state.frontier, end, part.offsets.last + 1, "watermark", end + LATENESS_MS),)


def decided(head: Head, part: Part, closed: tuple[Closing, ...], n: int) -> Entry:
    end = part.offsets.last + 1
    state = replace(
        head.state,
        position=end,
        committed=end,
        watermark=part.max_time,
        seen=part.max_time,
        frontier=closed[-1].until if closed else head.state.frontier,
        first_hour=part.hour if head.state.first_hour is None else head.state.first_hour,
        finished_until=part.hour if n else None,
    )
    old = head.entry
    return Entry(old.pid, old.seq + 1, head.sha256, "decide", "bulk", 1, part.max_time, "bulk", state, (part,), closed)


def part_of(pid: PartitionId, hour: int, first: int, roll: int, rolls: int) -> Part:
    low = hour + roll * HOUR_MS // rolls
    path = layout.part_path(pid, Kind.HOUR, hour, first, HOUR_MS, ".json.gz", early=False, append=False)
    part = Part(
        Kind.HOUR, hour, path, layout.tmp_path(pid, f"{first:019d}-{pid.partition}"), 0, 0, 10, "",
        OffsetSet.run(first, first + 10), low, low + 9,
    )  # fmt: skip
    data = lines_of(part)
    return replace(part, size=len(data), raw=len(data), sha256=hashlib.sha256(data).hexdigest())


def lines_of(part: Part) -> bytes:
    return encoder("gzip")(b"".join(b'{"ts":%d}\n' % (part.min_time + i) for i in range(10)))


def put(root: Path, entry: Entry) -> Head:
    data = codec.encode(entry)
    path = root / layout.entry_path(entry.pid, entry.seq)
    write(path, data)
    # as a store that is older than any grace period
    os.utime(path, (1_600_000_000, 1_600_000_000))
    return Head(entry, hashlib.sha256(data).hexdigest())
