"""``logflume quarantine --reinject``: run records again, now that the configuration or a limit is another one.

Exactly once: a numbered record, put-if-absent, decides before anything shows. It has the files and the offsets of
this run, and the offsets of all runs before, so the newest alone tells what was run again. A run that died is
completed by the next one, which publishes first what the newest record names.

The quarantined records stay where they are. That an offset is in the quarantine *and* in a late file is what the
record explains.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from logflume import commit
from logflume.config import TopicConfig
from logflume.core import codec, layout
from logflume.core.router import END_OF_TIME_MS
from logflume.errors import Busy, Exists, LedgerError, Missing, Stopped, StoreError, Unreachable
from logflume.log import get
from logflume.model import Batch, Kind, OffsetSet, Reason, TimeType
from logflume.quarantine.read import Quarantined
from logflume.records import RecordReader
from logflume.scratch import scratch
from logflume.spool.encoders import encoder
from logflume.store.base import Store

log = get(__name__)

FORMAT = 1
#: lines kept in memory before they are compressed, for all files together
BUFFER_BYTES = 32 << 20

Done = dict[int, OffsetSet]


@dataclass(frozen=True, slots=True)
class Record:
    """``files`` as JSON: path, tmp, bytes, sha256, partition, hour, offsets. ``done``: of this run and all before."""

    number: int
    files: tuple[dict[str, Any], ...]
    done: Done


@dataclass(slots=True)
class Result:
    """``again``: records by the reason for which they stay; ``before``: those that an earlier run took."""

    taken: int = 0
    before: int = 0
    again: Counter[str] = field(default_factory=Counter)
    files: list[str] = field(default_factory=list)
    resumed: int = 0

    def __iadd__(self, other: Result) -> Self:
        self.taken += other.taken
        self.before += other.before
        self.again += other.again
        self.files += other.files
        self.resumed += other.resumed
        return self


def newest(store: Store, topic: str, topic_id: str) -> Record | None:
    """The newest record; None where nothing was run again yet. Raises LedgerError."""
    number = max(numbers(store, topic, topic_id), default=None)
    return None if number is None else read(store, topic, topic_id, number)


def numbers(store: Store, topic: str, topic_id: str) -> list[int]:
    """Of the records that are there; one call."""
    found = store.list(f"{store.root}/{layout.reinjections_directory(topic, topic_id)}")
    named = [layout.parse_compaction_name(status.name) for status in found]
    return sorted(number for number in named if number is not None)


def read(store: Store, topic: str, topic_id: str, number: int) -> Record:
    """Raises LedgerError, Missing."""
    path = f"{store.root}/{layout.reinjections_directory(topic, topic_id)}/{number:06d}.json"
    try:
        body = json.loads(store.read(path))
        if body["v"] != FORMAT:
            raise LedgerError(f"the record has format {body['v']!r}, and this program knows {FORMAT}")
        done = {int(partition): codec.unpack(text) for partition, text in body["done"].items()}
        return Record(number, tuple(body["files"]), done)
    except (ValueError, KeyError, TypeError) as error:
        raise LedgerError(f"{path} cannot be read: {error}") from error


def find(store: Store, topic: str, topic_id: str, path: str) -> tuple[int, dict[str, Any]] | None:
    """The record that wrote a file, by its number, and what it says of it."""
    for number in reversed(numbers(store, topic, topic_id)):
        for file in read(store, topic, topic_id, number).files:
            if file["path"] == path:
                return number, file
    return None


def explains(record: Record | None, name: str) -> bool:
    """Whether a file of this name in the late tree is from a run."""
    parsed = layout.parse_reinjected_name(name)
    return record is not None and parsed is not None and parsed[1] in record.done.get(parsed[0], OffsetSet())


def reinject(
    store: Store,
    topic: str,
    topic_id: str,
    config: TopicConfig,
    found: Iterable[Quarantined],
    *,
    now_ms: int,
    dry_run: bool = False,
) -> Result:
    """Into the late tree of ``store``, which need not be the one that ``found`` comes from.

    Raises Busy when another run was quicker; Stopped where that store has a ledger with another window; store errors,
    after which the same call goes on.
    """
    commit.check_ledgers_window(store, topic, topic_id, config.window_ms)
    result = Result()
    last = newest(store, topic, topic_id)
    if last is not None and not dry_run:
        result.resumed = publish(store, last)
    done: Done = {} if last is None else {number: offsets.copy() for number, offsets in last.done.items()}
    with scratch("reinject") as folder:
        sorter = _Sorter(config, now_ms, folder)
        for one in found:
            offsets = done.setdefault(one.partition, OffsetSet())
            if one.offset in offsets:
                result.before += 1
                continue
            reason = sorter.take(one)
            if reason is None:
                offsets.add_run(one.offset, one.offset + 1)
                result.taken += 1
            else:
                result.again[reason.value] += 1
        if dry_run or not result.taken:
            return result
        files = sorter.upload(store, topic, topic_id)
    record = Record(0 if last is None else last.number + 1, tuple(files), done)
    _put(store, topic, topic_id, record)
    publish(store, record, new=True)
    result.files = [file["path"] for file in files]
    return result


def _put(store: Store, topic: str, topic_id: str, record: Record) -> None:
    directory = f"{store.root}/{layout.reinjections_directory(topic, topic_id)}"
    body = {
        "v": FORMAT,
        "topic": topic,
        "topic_id": topic_id,
        "number": record.number,
        "files": list(record.files),
        "done": {str(number): codec.pack(offsets) for number, offsets in record.done.items()},
    }
    data = json.dumps(body, indent=1).encode() + b"\n"
    path = f"{directory}/{record.number:06d}.json"
    try:
        if store.put_if_absent(path, data, f"{directory}/tmp/{uuid.uuid4().hex}"):
            return
    except (StoreError, Unreachable):
        if store.stat(path) is None:
            raise
    # uploads have names of their own, so equal bytes can only be ours
    if store.read(path) != data:
        raise Busy(f"another run was quicker: it has put {path}", hint="run it again; what that one took is left out")


def publish(store: Store, record: Record, *, new: bool = False) -> int:
    """Files of a decided record to their final names; returns how many were not there.

    Of a record that is not ``new`` a file may be gone: somebody keeps data for a shorter time than the ledger. Whether
    it should be there is for reconcile to say.
    """
    shown = 0
    for file in record.files:
        final = f"{store.root}/{file['path']}"
        try:
            store.publish(f"{store.root}/{file['tmp']}", final)
            shown += 1
        except (Exists, Missing) as error:
            status = store.stat(final)
            if status is None and isinstance(error, Missing) and not new:
                log.warning("a file of reinjected records is not there any more", path=file["path"])
                continue
            if status is None or status.length != file["bytes"]:
                raise Stopped(
                    f"{file['path']} was decided with {file['bytes']} bytes, and is not there so",
                    hint="someone removed or changed it; bring it back from a snapshot or the trash",
                ) from None
    return shown


class _Sorter:
    """Records → local files, one for each partition and hour."""

    def __init__(self, config: TopicConfig, now_ms: int, spool: Path) -> None:
        self._config, self._now_ms, self._spool = config, now_ms, spool
        self._reader = RecordReader(config)
        self._encode = encoder(config.compression)
        self._pending: dict[tuple[int, int], list[bytes]] = {}
        self._bytes = 0
        self._offsets: dict[tuple[int, int], OffsetSet] = {}

    def take(self, one: Quarantined) -> Reason | None:
        """None when it is accepted now, else why it is not."""
        # append time is the broker's, and a record that lacks it said so by its reason
        by = TimeType.CREATE if one.reason == Reason.NOT_APPEND_TIME else TimeType.APPEND
        batch = Batch("", one.partition, [one.value], [one.offset], [one.time], one.offset + 1, -1, [None], [by])
        rows, lines = self._reader.read(batch)
        reason = rows.rejects.get(0) or self._by_clock(rows.times[0], one.time)
        if reason is None:
            hour = rows.times[0] - rows.times[0] % self._config.window_ms
            self._pending.setdefault((one.partition, hour), []).append(lines[0])
            offsets = self._offsets.setdefault((one.partition, hour), OffsetSet())
            offsets.add_run(one.offset, one.offset + 1)
            self._bytes += len(lines[0])
            if self._bytes >= BUFFER_BYTES:
                self._flush()
        return reason

    def _by_clock(self, time: int, kafka_time: int) -> Reason | None:
        """As the core judges: see ``core/router.py``."""
        if time < self._config.min_time_ms:
            return Reason.ANCIENT
        by_kafka = self._config.timestamp.source != "create" and kafka_time >= 0
        latest = (kafka_time if by_kafka else self._now_ms) + self._config.max_future_ms
        return Reason.FUTURE if time > min(latest, END_OF_TIME_MS - 1) else None

    def _file(self, key: tuple[int, int]) -> Path:
        return self._spool / f"{key[0]}-{key[1]}"

    def _flush(self) -> None:
        for key, lines in self._pending.items():
            with self._file(key).open("ab") as file:
                file.write(self._encode(b"\n".join(lines) + b"\n"))
        self._pending, self._bytes = {}, 0

    def upload(self, store: Store, topic: str, topic_id: str) -> list[dict[str, Any]]:
        self._flush()
        config = self._config
        ext = layout.extension(config.format, config.compression)
        files = []
        for (partition, hour), offsets in sorted(self._offsets.items(), key=lambda item: item[0]):
            local = self._file((partition, hour))
            tmp = f"{layout.reinjections_directory(topic, topic_id)}/tmp/{uuid.uuid4().hex}"
            store.upload(local, f"{store.root}/{tmp}")
            directory = layout.hour_path(topic, hour, config.window_ms, Kind.LATE)
            with local.open("rb") as data:
                digest = hashlib.file_digest(data, "sha256").hexdigest()
            files.append(
                {
                    "path": f"{directory}/{layout.reinjected_name(topic_id, partition, offsets.first, ext)}",
                    "tmp": tmp,
                    "bytes": local.stat().st_size,
                    "count": len(offsets),
                    "sha256": digest,
                    "partition": partition,
                    "hour": hour,
                    "offsets": codec.pack(offsets),
                }
            )
        return files
