"""``--deep``: read the files. Each part is a range of bytes of a file, with its own check sum and count.

A record's event time is read again from its line with the topic's own rules, where it is in the line at
all (``timestamp = {field = …}``), and where the part was written with the settings of today.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import zstandard
from isal import isal_zlib

from logflume.config import TopicConfig
from logflume.core.ledger import Part
from logflume.errors import Missing, StoreError
from logflume.model import Batch, Kind, Reason, TimeType
from logflume.records import RecordReader
from logflume.store.base import Store

# isal's stub declares it as a value
_GZIP_ERROR: type[Exception] = isal_zlib.error  # type: ignore[assignment]
#: what a decoder raises for bytes that are damaged
DECODE_ERRORS = (_GZIP_ERROR, zstandard.ZstdError)

#: read from the store at once, and lines judged at once
CHUNK_BYTES, BATCH_LINES = 4 << 20, 20_000


@dataclass(frozen=True, slots=True)
class Segment:
    """A part as a range of a file's bytes. ``topic`` is None where event times cannot be re-read."""

    part: Part
    topic: TopicConfig | None


@dataclass(frozen=True, slots=True)
class Damage:
    """What is wrong with one part; ``bytes_differ``: it is not what was decided, so it can be brought back."""

    part: Part
    detail: str
    bytes_differ: bool


def read_file(store: Store, path: str, segments: Sequence[Segment]) -> list[Damage] | None:
    """Every part of a file against its decision; None when the file went away meanwhile."""
    try:
        chunks = _Chunks(store.stream(path, CHUNK_BYTES))
        return [damage for segment in segments for damage in _read(segment, chunks)]
    except Missing:
        return None
    except StoreError as error:
        # such as a block of which no replica is left: that is the file's damage, and the others can be read
        return [Damage(segment.part, f"cannot be read: {error}", bytes_differ=True) for segment in segments]


class _Chunks:
    """The bytes of a file, handed out in ranges."""

    def __init__(self, source: Iterable[bytes]) -> None:
        self._source = iter(source)
        self._rest = b""

    def take(self, size: int) -> Iterator[bytes]:
        while size > 0:
            chunk = self._rest or next(self._source, b"")
            if not chunk:
                return
            self._rest = chunk[size:]
            yield chunk[:size]
            size -= len(chunk[:size])


def _read(segment: Segment, chunks: _Chunks) -> list[Damage]:
    part = segment.part
    digest, lines = hashlib.sha256(), _judge(segment)
    broken = ""
    decode = decoder(part.path)
    for chunk in chunks.take(part.size):
        digest.update(chunk)
        if not broken:
            try:
                lines.add(decode(chunk))
            except DECODE_ERRORS as error:
                broken = str(error)
    if digest.hexdigest() != part.sha256:
        return [Damage(part, f"other bytes than were decided: sha256 is {digest.hexdigest()}", bytes_differ=True)]
    problems = [f"cannot be decompressed: {broken}"] if broken else lines.problems()
    return [Damage(part, "; ".join(problems), bytes_differ=False)] if problems else []


def decoder(path: str) -> Callable[[bytes], bytes]:
    """Decompresses chunk after chunk of one part: members or frames that follow each other."""
    if path.endswith(".gz"):
        return _gunzip()
    if path.endswith(".zst"):
        return _unzstd()
    return lambda chunk: chunk


def _gunzip() -> Callable[[bytes], bytes]:
    member = isal_zlib.decompressobj(31)

    def decode(chunk: bytes) -> bytes:
        nonlocal member
        pieces = []
        while chunk:
            if member.eof:
                member = isal_zlib.decompressobj(31)
            pieces.append(member.decompress(chunk))
            chunk = member.unused_data if member.eof else b""
        return b"".join(pieces)

    return decode


def _unzstd() -> Callable[[bytes], bytes]:
    frame = zstandard.ZstdDecompressor().decompressobj()

    def decode(chunk: bytes) -> bytes:
        nonlocal frame
        pieces = []
        while chunk:
            if frame.eof:
                frame = zstandard.ZstdDecompressor().decompressobj()
            pieces.append(frame.decompress(chunk))
            chunk = frame.unused_data if frame.eof else b""
        return b"".join(pieces)

    return decode


def _judge(segment: Segment) -> _Lines:
    return _QuarantineLines(segment) if segment.part.kind is Kind.QUARANTINE else _Lines(segment)


class _Lines:
    """Lines of one part as they come: how many, and of which hours."""

    def __init__(self, segment: Segment) -> None:
        self._part = segment.part
        self._window_ms = segment.topic.window_ms if segment.topic is not None else 0
        self._reader = None
        if segment.topic is not None and segment.topic.timestamp.source == "field":
            self._reader = RecordReader(segment.topic)
        self._rest = b""
        self._count = 0
        self._wrong: list[str] = []

    def add(self, data: bytes) -> None:
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        for start in range(0, len(lines), BATCH_LINES):
            self._take(lines[start : start + BATCH_LINES])
        self._count += len(lines)

    def problems(self) -> list[str]:
        found = list(self._wrong[:3])
        if self._count != self._part.count or self._rest:
            found.insert(0, f"{self._count} whole lines instead of {self._part.count}")
        return found

    def _take(self, lines: list[bytes]) -> None:
        if self._reader is None or not lines:
            return
        n = len(lines)
        offsets = list(range(n))
        rows, _ = self._reader.read(Batch("", 0, lines, offsets, [0] * n, n, -1, [None] * n, [TimeType.NONE] * n))
        # ``max_record_bytes`` may be lower than it was then: it says nothing of where a record belongs
        rejects = [(i, reason) for i, reason in rows.rejects.items() if reason is not Reason.TOO_LARGE]
        if rejects:
            i, reason = min(rejects)
            self._wrong.append(f"line {self._count + i + 1} would be quarantined: {reason.value}")
        part = self._part
        times = [time for i, time in enumerate(rows.times) if i not in rows.rejects]
        if times and not (part.min_time <= min(times) and max(times) <= part.max_time):
            self._wrong.append(f"a record has an event time outside of {part.min_time} to {part.max_time}")
        if times and not (part.hour <= min(times) and max(times) < part.hour + self._window_ms):
            self._wrong.append("a record belongs to another hour")


class _QuarantineLines(_Lines):
    """Quarantined records name their own offset and reason."""

    def __init__(self, segment: Segment) -> None:
        super().__init__(segment)
        self._reader = None

    def _take(self, lines: list[bytes]) -> None:
        for line in lines:
            try:
                record = json.loads(line)
                offset, reason = record["offset"], record["reason"]
            except (ValueError, KeyError, TypeError) as error:
                self._wrong.append(f"a line is no quarantined record: {type(error).__name__}: {error}")
                return
            if offset not in self._part.offsets:
                self._wrong.append(f"offset {offset} was not decided for this file")
            elif reason not in self._part.reasons:
                self._wrong.append(f"no record was decided to be here for {reason!r}")
