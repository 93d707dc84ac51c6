"""Trees to reconcile, written by the real core, commit steps and finisher in this process, from a made-up log."""

from __future__ import annotations

import hashlib
import json
import random
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from logflume import commit
from logflume.commit import Decision, LogFacts, Owner
from logflume.config import Config, TopicConfig, parse
from logflume.core import layout
from logflume.core.ledger import Head
from logflume.core.router import Keep, Router
from logflume.daemon.slot import rules_of
from logflume.finish import run as finishing
from logflume.finish.follow import TopicFollower
from logflume.model import HOUR_MS, Batch, Kind, PartitionId, TimeType
from logflume.records import RecordReader, quarantine_line
from logflume.spool.encoders import encoder
from logflume.spool.spool import SpoolFile
from logflume.store import Store, open_store

#: 2026-11-22T07:00Z, the first hour of most trees
FIRST_HOUR = 1_795_330_800_000
TOPIC, TOPIC_ID = "app", "id-of-app"

#: a record: event time, or a value that is no JSON
Record = int | bytes


def configuration(root: str, spool: Path, **topic: Any) -> Config:
    settings = {"name": TOPIC, "timestamp": {"field": "ts", "unit": "ms"}, "lateness": "1m", "idle_grace": "1m"}
    return parse(
        {
            "kafka": {"bootstrap.servers": "127.0.0.1:1", "group.id": "none"},
            "output": {"root": root},
            "daemon": {"spool": str(spool), "http": ""},
            "topic": [settings | topic],
        }
    )


class Ingest:
    """One partition's owner: what a worker does, one step after the other."""

    def __init__(
        self, store: Store, pid: PartitionId, config: TopicConfig, spool: Path, *, partitions: int, start: int = 0
    ) -> None:
        self.pid, self.config, self._store, self._spool = pid, config, store, spool
        self.owner = Owner(f"test:{uuid.uuid4().hex[:8]}", lambda: self.now, config.hash)
        self.now = FIRST_HOUR
        self.mono = 0.0
        self.lines: dict[int, list[bytes]] = {}
        self.fates: dict[int, tuple[Kind, int]] = {}
        self._reader = RecordReader(config)
        facts = LogFacts(start, 1 << 60, None, partitions)
        self.head: Head = commit.claim(
            store, pid, self.owner, window_ms=config.window_ms, ask=lambda: facts, latest=False
        )
        self.router = Router(rules_of(config), self.head.state)
        self._offset = self.head.state.committed

    def feed(self, records: Sequence[Record], *, gap_before: int = 0) -> None:
        """Route records that follow each other; ``gap_before`` offsets the broker does not deliver."""
        self._offset += gap_before
        offsets = list(range(self._offset, self._offset + len(records)))
        values: list[bytes | None] = [value_of(self.pid.partition, o, r) for o, r in zip(offsets, records, strict=True)]
        times = [r if isinstance(r, int) else self.now for r in records]
        self.now = max(self.now, *times)
        batch = Batch(
            self.pid.topic,
            self.pid.partition,
            values,
            offsets,
            times,
            offsets[-1] + 1,
            0,
            [b"key"] * len(times),
            [TimeType.CREATE] * len(times),
        )
        self._offset = batch.next_offset
        rows, lines = self._reader.read(batch)
        for keep in self.router.route(rows, now=self.now, mono=self.mono):
            self._keep(keep, batch, lines)

    def _keep(self, keep: Keep, batch: Batch, values: Sequence[bytes]) -> None:
        picks = range(len(values))[keep.rows] if isinstance(keep.rows, slice) else keep.rows
        into = self.lines.setdefault(keep.part, [])
        if keep.reasons is None:
            into += [values[i] for i in picks]
        else:
            into += [quarantine_line(batch, i, why) for i, why in zip(picks, keep.reasons, strict=True)]

    def go_on(self) -> None:
        """Read the newest entry, which may be an operator's, and go on from there."""
        self.head = commit.read_head(self._store, self.pid) or self.head
        self.router = Router(rules_of(self.config), self.head.state)
        self._offset = self.head.state.committed

    def idle(self, now: int) -> None:
        self.now = now
        self.router.close_idle(now)

    def cut(self, *, everything: bool = False) -> Decision:
        """A decision that is not made yet."""
        self.mono += 1.0
        round_ = self.router.cut(self.mono, seq=self.head.entry.seq + 1, everything=everything)
        names, files = {}, {}
        for part in round_.parts:
            quarantine = part.kind is Kind.QUARANTINE
            ext = layout.extension("json" if quarantine else self.config.format, self.config.compression)
            names[part.serial] = layout.part_path(
                self.pid, part.kind, part.hour, part.first, self.config.window_ms, ext,
                early=self.config.reveal == "early", append=self.config.late == "append",
            )  # fmt: skip
            files[part.serial] = self._write(self.lines.pop(part.serial))
            self.fates |= dict.fromkeys(part.offsets, (part.kind, part.hour))
        return Decision(self.head, round_, names, files)

    def _write(self, lines: list[bytes]) -> SpoolFile:
        raw = b"".join(line + b"\n" for line in lines)
        # in two chunks, as a part of any size is
        half = raw.find(b"\n", len(raw) // 2) + 1
        encode = encoder(self.config.compression)
        data = encode(raw[:half]) + (encode(raw[half:]) if raw[half:] else b"")
        path = self._spool / uuid.uuid4().hex
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return SpoolFile(path, len(data), len(raw), len(lines), hashlib.sha256(data).hexdigest())

    def decide(self, *, everything: bool = False) -> Head:
        decision = self.cut(everything=everything)
        self.head = commit.decide(self._store, decision, self.owner)
        for file in decision.files.values():
            file.path.unlink()
        return self.head


def value_of(partition: int, offset: int, record: Record) -> bytes:
    if isinstance(record, bytes):
        return record
    return json.dumps({"ts": record, "n": f"{partition}:{offset}"}).encode()


@dataclass
class Tree:
    """A root with one topic. ``fill`` writes hours as two owners' rounds each; ``finish`` marks what is due."""

    base: Path
    partitions: int = 2
    settings: dict[str, Any] = field(default_factory=dict)
    url: str = ""
    topic_id: str = TOPIC_ID
    namenode_http: str | None = None
    seed: int = 1
    start: int = 0

    def __post_init__(self) -> None:
        self.spool = self.base / "spool"
        self.spool.mkdir(parents=True, exist_ok=True)
        self.url = self.url or f"file://{self.base}/root"
        self.store = open_store(self.url, namenode_http=self.namenode_http)
        self.config = configuration(self.url, self.spool, **self.settings)
        topic = self.config.topic_for(TOPIC)
        assert topic is not None
        self.topic = topic
        self.random = random.Random(self.seed)
        self.ingests = [self.ingest(number) for number in range(self.partitions)]

    def ingest(self, number: int) -> Ingest:
        pid = PartitionId(TOPIC, self.topic_id, number)
        return Ingest(self.store, pid, self.topic, self.base / "parts", partitions=self.partitions, start=self.start)

    def pid(self, number: int = 0) -> PartitionId:
        return PartitionId(TOPIC, self.topic_id, number)

    def fill(
        self, hours: int = 3, *, records: int = 12, late: bool = True, bad: bool = True, finish: bool = True
    ) -> Tree:
        """Hours with disorder, late and bad records, gaps; two decisions an hour for each partition."""
        for n in range(hours):
            start = FIRST_HOUR + n * HOUR_MS
            for ingest in self.ingests:
                self._fill_hour(ingest, start, records, late=late and n > 0, bad=bad)
        for ingest in self.ingests:
            # a record beyond the last hour closes it
            ingest.feed([FIRST_HOUR + hours * HOUR_MS + 120_000])
            ingest.decide()
        return self.finish() if finish else self

    def _fill_hour(self, ingest: Ingest, start: int, records: int, *, late: bool, bad: bool) -> None:
        rnd = self.random
        times: list[Record] = [start + i * HOUR_MS // records + rnd.randrange(60_000) for i in range(records)]
        half = records // 2
        if bad:
            times.insert(half - 1, b"not json")
        if late:
            times.insert(half + 1, start - HOUR_MS + 1000)
        ingest.feed(times[:half], gap_before=rnd.choice([0, 0, 2]))
        ingest.decide(everything=True)
        ingest.feed(times[half:])
        ingest.decide()

    def finish(self) -> Tree:
        with ThreadPoolExecutor(4) as pool:
            follower = TopicFollower(self.store, TOPIC, self.topic_id, self.topic)
            follower.refresh(pool)
            while plans := follower.due(100):
                for plan in plans:
                    finishing.finish(self.store, plan)
                    follower.finished(plan.hour)
            for ingest in self.ingests:
                ingest.router.finished_until = follower.finished_until
        return self

    # -- what is there ----------------------------------------------------------------------------

    def path(self, relative: str) -> Path:
        return Path(f"{self.store.root}/{relative}")

    def hour(self, n: int, kind: Kind = Kind.HOUR) -> str:
        return layout.hour_path(TOPIC, FIRST_HOUR + n * HOUR_MS, self.topic.window_ms, kind)

    def finished(self, n: int) -> Path:
        """The first finished file of an hour."""
        return next(self.path(self.hour(n)).glob("app-00000-of-*"))

    def marker(self, n: int) -> Path:
        return self.path(f"{self.hour(n)}/{layout.SUCCESS}")

    def entry(self, seq: int, number: int = 0) -> Path:
        return self.path(layout.entry_path(self.pid(number), seq))

    def entries(self, number: int = 0) -> list[Path]:
        return sorted(self.path(layout.chain_directory(self.pid(number))).glob("*.json"))

    def snapshot(self) -> dict[str, str]:
        """Every file of the output trees and of the ledger with its check sum, checkpoints left out."""
        root = Path(self.store.root)
        return {
            str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(root.rglob("*"))
            if path.is_file() and "_reconcile" not in path.parts
        }


def flip(path: Path) -> None:
    """The first byte of a file is another one."""
    data = path.read_bytes()
    path.write_bytes(bytes([data[0] ^ 1]) + data[1:])
